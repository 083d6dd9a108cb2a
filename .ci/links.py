#!/usr/bin/env python3
"""Check what the site shows without building it: every relative link has its target (and heading), which is a notebook where
there is one, every picture has a description, no page loses text to its front matter, no stored output holds an error, a path
of somebody's machine or a needlessly large image, and the sidebar lists every notebook. Prints one finding a line; leaves 1
if there is any.
"""
import ast, base64, configparser, json, posixpath, re, sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import yaml

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT/'nbs'
UNLISTED = {'91_all.ipynb'}                     # re-exports the rest: nothing to read
LISTED_BY_PAGE = 'posts', 'benchmarks'          # their index pages list them
MAX_IMAGE = 200_000                             # bytes of one stored output image
LOCAL = re.compile(r'(?<![\w.~:/-])/(?:home|root|Users|tmp|mnt|work(?:space)?|opt|usr|content|private|var/(?:tmp|folders))/[\w.+-]+'
                   r'|\b[A-Z]:\\+Users\\')
CFG = configparser.ConfigParser(delimiters=['='], interpolation=None)
CFG.read(ROOT/'settings.ini', encoding='utf-8')
CFG = CFG['DEFAULT']
SITE = CFG['doc_host'] + CFG['doc_baseurl']
BLOB = re.compile(re.escape(CFG['git_url']) + r'/(?:blob|tree)/[^/]+/')

def html_name(rel):
    "The page that nbdev and Quarto make of a source: a notebook loses its number."
    rel = Path(rel)
    name = re.sub(r'^\d+[a-zA-Z0-9]*_', '', rel.name.lower()) if rel.suffix == '.ipynb' else rel.name
    return rel.with_name(name).with_suffix('.html').as_posix()

def source(cell): return ''.join(cell.get('source', ''))

def prose(text):
    "Markdown without code, whose brackets are no links."
    text = re.sub(r'^(\s*)(`{3,}|~{3,}).*?^\s*\2', '', text, flags=re.M | re.S)
    return re.sub(r'(`+).+?\1', lambda m: 'x'*len(m[0]), text, flags=re.S)

def slug(heading):
    "Pandoc's identifier of a heading."
    text = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading).lower()
    text = re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', text).strip())
    return re.sub(r'^[^a-z]+', '', text)

class Page:
    "One source of the site: its Markdown texts with their places, its anchors, and the cells of a notebook."
    def __init__(self, path):
        self.path, self.rel = path, path.relative_to(NBS).as_posix()
        self.cells = json.loads(path.read_text(encoding='utf-8'))['cells'] if path.suffix == '.ipynb' else []
        self.texts = ([(f'cell {i}', source(c)) for i, c in enumerate(self.cells) if c['cell_type'] == 'markdown']
                      if self.cells else [('', path.read_text(encoding='utf-8'))])
        self.anchors = self.headings() | self.symbols()
    def headings(self):
        out = set()
        for _, text in self.texts:
            text = re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)
            for h in re.findall(r'^#{1,6}\s+(.+?)\s*$', text, flags=re.M): out.add(slug(re.sub(r'\{[^}]*\}', '', h)))
            out |= set(re.findall(r'\{[^}]*#([\w.-]+)', text)) | set(re.findall(r'\bid="([^"]+)"', text))
        return out
    def symbols(self):
        "Names that `show_doc` makes headings of."
        out = set()
        for c in self.cells:
            if c['cell_type'] != 'code' or not re.search(r'^\s*#\|\s*exports?\b', source(c), re.M): continue
            tree = ast.parse(re.sub(r'^\s*[%!].*$', '', source(c), flags=re.M))
            for node in tree.body:
                if not isinstance(node, (ast.FunctionDef, ast.ClassDef)): continue
                out.add(node.name.lower())
                if isinstance(node, ast.ClassDef):
                    out |= {f'{node.name}.{f.name}'.lower() for f in node.body if isinstance(f, ast.FunctionDef)}
        return out

def strings(path, *keys):
    "The strings that a YAML file has under one of `keys`, alone or in a list."
    def walk(x, under):
        if isinstance(x, str): yield from [x]*under
        elif isinstance(x, list):
            for v in x: yield from walk(v, under)
        elif isinstance(x, dict):
            for k, v in x.items(): yield from walk(v, k in keys)
    return list(walk(yaml.safe_load(path.read_text(encoding='utf-8')), False))

class Checker:
    "Collects findings and counts what was looked at."
    def __init__(self):
        files = [p for p in sorted(NBS.rglob('*')) if p.suffix in ('.ipynb', '.qmd', '.md')
                 and not any(q.startswith(('.', '_')) or q == 'runs' for q in p.relative_to(NBS).parts)]
        self.pages = {p.rel: p for p in map(Page, files)}
        self.found, self.links, self.images, self.outputs = [], 0, 0, 0
        self.html = {}
        for rel in self.pages:
            if (other := self.html.setdefault(html_name(rel), rel)) != rel: self.say(f'nbs/{rel}', f'makes the same page as nbs/{other}')

    def say(self, where, what): self.found.append(f'{where}: {what}')

    def target(self, where, link, folder, site=True):
        "Report `link`, found in `folder` (relative to nbs/ on the site, else to the root), if it leads nowhere."
        self.links += 1
        if site_wide := link.startswith(SITE): link, folder, site = link[len(SITE):].lstrip('/') or 'index.html', '', True
        elif m := BLOB.match(link): link, folder, site = link[m.end():], '', False
        elif re.match(r'[a-z][a-z0-9+.-]*:|//', link, re.I): return
        path, anchor = urldefrag(unquote(link))
        rel = posixpath.normpath(path.lstrip('/') if path.startswith('/') else posixpath.join(folder, path))
        if rel.startswith('..'): return self.say(where, f"'{link}' leads out of the {'site' if site else 'repository'}")
        if site and rel in self.html and not site_wide: self.say(where, f"'{link}' works on the site only: link to nbs/{self.html[rel]}, which Quarto rewrites")
        if site: rel = self.html.get(rel, rel)
        if not ((NBS if site else ROOT)/rel).exists(): return self.say(where, f"no such target: '{link}'")
        if site and anchor and rel in self.pages and anchor not in self.pages[rel].anchors: self.say(where, f"no such heading: '{link}'")

    def markdown(self, where, text, folder, anchors=None, site=True):
        text = prose(text)
        targets = re.findall(r'\]\(\s*<?([^)\s>]+)', text) + re.findall(r'\b(?:href|src)="([^"]+)"', text)
        targets += re.findall(r'^\[[^\]^]+\]:\s*(\S+)', text, flags=re.M)
        for link in targets:
            if not link.startswith('#'): self.target(where, link, folder, site)
            elif anchors is not None and link[1:] not in anchors: self.say(where, f"no such heading: '{link}'")
        for alt in re.findall(r'!\[(.*?)\]\(', text, flags=re.S):
            self.images += 1
            if not alt.strip(): self.say(where, 'a picture has no description: ![description](...)')
        self.html_images(where, text)

    def html_images(self, where, text):
        for tag in re.findall(r'<img\b[^>]*>', text):
            self.images += 1
            if not re.search(r'\balt="[^"]+"', tag): self.say(where, 'an <img> has no alt text')

    def output(self, where, code, out):
        self.outputs += 1
        if out['output_type'] == 'error': return self.say(where, f"the output is an error: {out.get('ename')}")
        hidden = re.search(r'^\s*#\|\s*(hide\b|(output|include)\s*:\s*false)', code, flags=re.M)
        for kind, value in [('text/plain', out.get('text', '')), *out.get('data', {}).items()]:
            if kind.startswith('image/') and kind != 'image/svg+xml':
                self.images += 1
                size = len(base64.b64decode(''.join(value)))
                if size > MAX_IMAGE: self.say(where, f'an output image of {size//1000} kB; keep it under {MAX_IMAGE//1000}')
                if not hidden and not re.search(r'^\s*#\|\s*fig-alt\s*:\s*\S', code, flags=re.M):
                    self.say(where, 'an output image has no description: #| fig-alt: "..."')
            elif isinstance(value, (str, list)):
                text = re.sub(r'data:[\w/+.-]+;base64,[\w+/=\s]+', '', ''.join(map(str, value)))
                if m := LOCAL.search(text): self.say(where, f"the output shows a path of one machine: '{m[0]}...'")
                if kind == 'text/html' and not hidden: self.html_images(where, text)

    def front(self, p):
        "nbdev turns the cell with the title into front matter and drops whatever else is in it."
        if not p.cells or p.cells[0]['cell_type'] == 'raw': return
        title = next((text for _, text in p.texts if text.startswith('# ')), None)
        if title is None: return self.say(f'nbs/{p.rel}', 'has no cell that begins with "# Title"')
        if re.sub(r'\A# .*\n*(> .*\n*)?(- [\w-]+:.*\n*)*', '', title):
            self.say(f'nbs/{p.rel}', 'text in the cell of the title is not shown on the site: give it a cell of its own')

    def page(self, p):
        self.front(p)
        for place, text in p.texts: self.markdown(f'nbs/{p.rel} {place}'.strip(), text, posixpath.dirname(p.rel), p.anchors)
        for i, c in enumerate(p.cells):
            for out in c.get('outputs', []): self.output(f'nbs/{p.rel} cell {i}', source(c), out)

    def sidebar(self):
        "What sidebar.yml lists and _quarto.yml names exists, and every notebook is listed."
        listed = set(strings(NBS/'sidebar.yml', 'contents', 'href', 'file'))
        for link in sorted(listed): self.target('nbs/sidebar.yml', link, '')
        for link in strings(ROOT/'_quarto.yml', 'href', 'favicon', 'logo', 'css'): self.target('_quarto.yml', link, '')
        for rel in self.pages:
            if rel.endswith('.ipynb') and rel not in listed | UNLISTED and not rel.startswith(LISTED_BY_PAGE):
                self.say('nbs/sidebar.yml', f'{rel} is not listed')

    def readme(self):
        "GitHub's identifiers of headings differ from Pandoc's in dots and leading digits: only files are checked."
        for name in ('README.md', 'CHANGELOG.md'):
            self.markdown(name, (ROOT/name).read_text(encoding='utf-8'), '', site=False)
        if (ROOT/'CHANGELOG.md').read_text(encoding='utf-8') != (NBS/'changelog.md').read_text(encoding='utf-8'): self.say('CHANGELOG.md', 'differs from nbs/changelog.md')

def main():
    c = Checker()
    for p in c.pages.values(): c.page(p)
    c.sidebar()
    c.readme()
    print(*c.found, sep='\n', end='\n' if c.found else '')
    print(f'{len(c.pages)} pages, {c.links} links, {c.images} pictures, {c.outputs} outputs: {len(c.found)} findings')
    sys.exit(bool(c.found))

if __name__ == '__main__': main()
