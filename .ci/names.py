"""Find names that a module uses and does not have.

A notebook's tests run in the notebook, where the imports of its test cells are at hand too. In the exported module they
are not, and a forgotten import shows only when a user calls the function. This imports every module and looks up each
global name that its functions read.
"""
import builtins, dis, importlib, pkgutil, sys, types

import imgcls


def codes(code):
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType): yield from codes(const)


def missing(module):
    with open(module.__file__, encoding='utf-8') as f: top = compile(f.read(), module.__file__, 'exec')
    used = {i.argval for c in codes(top) if c is not top for i in dis.get_instructions(c) if i.opname == 'LOAD_GLOBAL'}
    return sorted(n for n in used if not hasattr(module, n) and not hasattr(builtins, n))


found = 0
for info in pkgutil.walk_packages(imgcls.__path__, 'imgcls.'):
    if info.name.endswith('_modidx'): continue
    for name in missing(importlib.import_module(info.name)):
        print(f'{info.name}: {name} is not defined')
        found += 1
sys.exit(found > 0)
