#!/usr/bin/env python
"""The error browser in a real browser: JupyterLab, headless Chromium, keys pressed, the journal read after each.

    python .ci/browser.py [--run RUN --data DATA [--every N]] [--screenshot FILE.png]

Without RUN, a classifier of digits is trained. Ends with "N checks passed"; leaves 1 if one fails, 77 if there is no Playwright, JupyterLab or Chromium.
Chromium: $CHROMIUM, else one in PATH, else the one that `playwright install chromium` brings.
"""
import argparse, importlib.util, json, os, secrets, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

SETUP = """import os
from pathlib import Path
from imgcls.all import *
from imgcls.data.edits import *
from imgcls.interpretation.browser import *
here = Path({here!r})
(here/'{name}.pid').write_text(str(os.getpid()))
if {run!r}:
    data, clf = load_data({data!r}), Classifier.load({run!r}, device='cpu')
    data = data.subset(range(0, len(data), {every}))
else:
    data = load_data('digits')
    clf = make_classifier(fit(build_learner(data, Recipe.load('quickstart', epochs=2), device='cpu')))"""
SHOW = "browser = ErrorBrowser(clf, data, here/'edits.csv')\nbrowser"


def missing():
    for module in ('playwright', 'jupyterlab', 'anywidget', 'imgcls'):
        if importlib.util.find_spec(module) is None: return f'no {module}'
    return ''


def notebook(path, cells):
    cell = lambda i, s: dict(cell_type='code', id=f'c{i}', metadata={}, execution_count=None, outputs=[], source=s)
    path.write_text(json.dumps(dict(cells=[cell(i, s) for i, s in enumerate(cells)], metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')), nbformat=4, nbformat_minor=5)))


class Lab:
    "A JupyterLab of its own, with its settings in a folder of its own."
    def __init__(self, here):
        with socket.socket() as s: s.bind(('127.0.0.1', 0)); self.port = s.getsockname()[1]
        self.token, config = secrets.token_hex(16), here/'config'
        (config/'labconfig').mkdir(parents=True)
        (config/'labconfig'/'page_config.json').write_text(json.dumps({'disabledExtensions': {'@jupyterlab/apputils-extension:announcements': True}}))
        env = dict(os.environ, JUPYTER_CONFIG_DIR=str(config), JUPYTER_DATA_DIR=str(here/'data'), JUPYTER_RUNTIME_DIR=str(here/'runtime'), IPYTHONDIR=str(here/'ipython'), JUPYTERLAB_SETTINGS_DIR=str(here/'lab-settings'),
                   JUPYTERLAB_WORKSPACES_DIR=str(here/'workspaces'), IN_TEST='')
        (here/'root').mkdir(); self.log = open(here/'lab.log', 'w')
        self.process = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={self.port}', '--ServerApp.port_retries=0', f'--IdentityProvider.token={self.token}',
                                         f'--ServerApp.root_dir={here/"root"}', '--LabApp.expose_app_in_browser=True', '--LabApp.collaborative=False'], stdout=self.log, stderr=self.log, env=env, start_new_session=True)
    def url(self, name): return f'http://127.0.0.1:{self.port}/lab/workspaces/{name}/tree/{name}.ipynb?token={self.token}&reset'
    def wait(self, seconds=60):
        for _ in range(seconds*4):
            if self.process.poll() is not None: break
            try: return urllib.request.urlopen(f'http://127.0.0.1:{self.port}/api?token={self.token}', timeout=5).read()
            except OSError: time.sleep(.25)
        sys.exit(f'JupyterLab does not answer: {Path(self.log.name).read_text()[-2000:]}')
    def stop(self):
        for sig in (signal.SIGTERM, signal.SIGKILL):
            try: os.killpg(self.process.pid, sig); self.process.wait(8); break
            except (ProcessLookupError, subprocess.TimeoutExpired): continue
        self.log.close()


class Tab:
    "A notebook in the browser."
    def __init__(self, context, lab, name):
        self.page, self.errors = context.new_page(), []
        self.page.on('pageerror', lambda e: self.errors.append(str(e)))
        self.page.goto(lab.url(name)); self.page.wait_for_selector('.jp-Notebook .jp-Cell', timeout=60_000)
        self.page.wait_for_function("window.jupyterapp && window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=60_000)
        self.execute('application:toggle-left-area'); self.run()
    def execute(self, command): self.page.evaluate('c => { window.jupyterapp.commands.execute(c) }', command)
    def run(self):
        self.execute('notebook:run-all-cells')
        self.page.wait_for_selector('.ic-browser[data-image]:not([data-image=""])', timeout=180_000); self.focus()
    def focus(self): self.page.locator('.ic-browser img.large').first.click()
    def state(self): return self.page.eval_on_selector('.ic-browser', """e => ({ at: +e.dataset.at, n: +e.dataset.n, image: e.dataset.image, id: e.querySelector('figcaption')?.textContent,
        label: e.querySelector('.facts .label')?.lastChild.textContent, answer: e.querySelectorAll('.facts .label')[1]?.textContent.slice(7), message: e.querySelector('.message').textContent })""")
    def until(self, what, js): # A condition on e, the browser's element
        try: self.page.wait_for_function(f"() => {{ const e = document.querySelector('.ic-browser'); return e && ({js}) }}", timeout=20_000)
        except Exception: raise AssertionError(f'{what}; the screen says {self.state()}') from None
    def press(self, *keys):
        for k in keys: self.page.keyboard.press(k)
    def message(self, text): self.until(f'no message "{text}"', f"e.querySelector('.message').textContent.includes({json.dumps(text)})"); return self.state()
    def cells(self): return self.page.locator('.jp-Notebook .jp-Cell').count()


def main():
    p = argparse.ArgumentParser(); p.add_argument('--run', default=''); p.add_argument('--data', default=''); p.add_argument('--every', type=int, default=1); p.add_argument('--screenshot')
    args = p.parse_args()
    if why := missing(): print(f'skipped: {why}'); sys.exit(77)
    from playwright.sync_api import sync_playwright
    from imgcls.data.edits import Journal
    here = Path(tempfile.mkdtemp(prefix='imgcls-browser-')); passed = []
    def check(what, ok, detail=''):
        if not ok: raise AssertionError(f'{what} {detail}')
        passed.append(what); print(f'ok    {what}')
    lab, journal = Lab(here), Journal(here/'edits.csv')
    try:
        for name in ('one', 'two'):
            notebook(here/'root'/f'{name}.ipynb', [SETUP.format(here=str(here), name=name, run=str(Path(args.run).resolve()) if args.run else '', data=args.data, every=args.every), SHOW])
        lab.wait()
        with sync_playwright() as pw:
            chromium = os.environ.get('CHROMIUM') or shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
            try: browser = pw.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
            except Exception as e: print(f'skipped: no Chromium ({str(e).splitlines()[0]})'); sys.exit(77)
            context = browser.new_context(viewport=dict(width=1120, height=840))
            script(context, lab, journal, here, check, args.screenshot)
            browser.close()
        print(f'{len(passed)} checks passed')
    finally: lab.stop(); shutil.rmtree(here, ignore_errors=True)


def script(context, lab, journal, here, check, screenshot):
    tab = Tab(context, lab, 'one'); cells, s = tab.cells(), tab.state()
    check('JupyterLab shows the error browser', s['at'] == 0 and s['n'] > 6, s)
    last = lambda: journal.read()[-1]

    tab.press('ArrowRight'); tab.until('no step', 'e.dataset.at == 1'); tab.press('j'); tab.until('no step', 'e.dataset.at == 2'); tab.press('ArrowLeft', 'k'); tab.until('no step back', 'e.dataset.at == 0')
    check('arrows, j and k move', len(journal.read()) == 0)
    tab.until('no Grad-CAM', "e.querySelectorAll('img.large').length == 2"); tab.until('no neighbours', "e.querySelectorAll('.facts .row img').length == 6")
    check('Grad-CAM and six neighbours are shown', True)

    s = tab.state(); tab.press('a'); tab.message('→')
    check('a relabels, and shows the next image', (last().action, last().id, last().was, last().value) == ('relabel', s['id'], s['label'], s['answer']) and tab.state()['at'] == 1, last())
    s = tab.state(); tab.press('x'); tab.message('marked for removal')
    check('x marks for removal', (last().action, last().id) == ('remove', s['id']), last())
    check("x did not reach JupyterLab: the notebook's cells are all there", tab.cells() == cells)
    s = tab.state(); tab.press('n'); tab.page.keyboard.type('a, "b" and x'); tab.press('Enter'); tab.message('noted')
    check('n writes a note; letters in it are no commands', (last().action, last().id, last().value) == ('note', s['id'], 'a, "b" and x') and len(journal.read()) == 3, last())
    s, new = tab.state(), tab.page.evaluate("() => { const l = document.querySelector('.ic-browser .facts .label').lastChild.textContent; return [...document.querySelectorAll('.ic-browser datalist option')].map(o => o.value).filter(v => v != l).at(-1) }")
    tab.press('r'); tab.page.keyboard.type(new); tab.press('Enter'); tab.message(f'→ {new}')
    check('r relabels by name', (last().id, last().value) == (s['id'], new), last())
    key, s = ''.join(tab.page.locator('.ic-browser .keys kbd[data-key]').all_inner_texts()), tab.state()
    for k in key[:2]:
        n = len(journal.read()); tab.press(k); tab.page.wait_for_timeout(600)
        if len(journal.read()) > n: break
    check('a number key relabels', (last().action, last().id) == ('relabel', s['id']), last())
    n = len(journal.active()); tab.press('u'); tab.message('undone: relabel')
    check('u undoes, and goes back to the image', last().action == 'undo' and len(journal.active()) == n-1 and tab.state()['id'] == s['id'], tab.state())
    tab.press('Home'); tab.until('not at the start', 'e.dataset.at == 0')
    n, want = len(journal.read()), tab.state()['n']
    if want > 12:
        tab.press('End'); tab.until('not at the end', f'e.dataset.at == {want-1}'); tab.press('Home'); tab.until('not at the start', 'e.dataset.at == 0')
    tab.press('g'); tab.until('Grad-CAM still there', "e.querySelectorAll('img.large').length == 1"); tab.press('g'); tab.until('no Grad-CAM', "e.querySelectorAll('img.large').length == 2")
    check('g, Home and End edit nothing', len(journal.read()) == n)
    if screenshot:
        tab.press(*['ArrowRight']*5); tab.until('not there', 'e.dataset.at == 5'); tab.until('no Grad-CAM', "e.querySelectorAll('img.large').length == 2"); tab.page.wait_for_timeout(500)
        tab.page.locator('.ic-browser').screenshot(path=screenshot); print(f'      screenshot: {Path(screenshot).stat().st_size/1000:.0f} kB')
    edited = lambda: len({e.id for e in journal.active()})
    k = edited(); tab.page.select_option('.ic-browser [name=show]', 'edited'); tab.until('filter', f'e.dataset.n == {k}')
    check(f'the filter "edited" finds the {k} edited images', k == 3 and tab.state()['n'] == k, tab.state())
    tab.page.fill('.ic-browser [name=low]', '1'); tab.page.locator('.ic-browser [name=low]').blur(); tab.until('confidence', f'e.dataset.n < {k}')
    tab.page.fill('.ic-browser [name=low]', '0'); tab.page.locator('.ic-browser [name=low]').blur(); tab.until('confidence', f'e.dataset.n == {k}')
    check('the filter by confidence works', True)

    two = Tab(context, lab, 'two'); two.press('End'); two.until('no End', 'e.dataset.at == e.dataset.n - 1'); s = two.state(); two.press('x'); two.message('marked for removal')
    check('a second notebook writes to the same journal', (last().action, last().id) == ('remove', s['id']), last())
    tab.page.bring_to_front(); tab.page.select_option('.ic-browser [name=show]', 'all'); tab.page.select_option('.ic-browser [name=show]', 'edited'); tab.until("the other's edit", f'e.dataset.n == {k+1}')
    check('the first notebook sees it', True)
    mine = journal.active()[-2]; tab.focus(); tab.press('u'); tab.message('undone')
    check("u in the first notebook undoes its own edit, not the other's", last().value == mine.edit, last())

    tab.page.select_option('.ic-browser [name=show]', 'wrong'); tab.until('filter', 'e.dataset.at == 0'); tab.focus(); tab.press('ArrowRight', 'ArrowRight', 'ArrowRight', 'ArrowRight'); tab.until('four on', 'e.dataset.at == 4')
    tab.press('x'); tab.message('marked for removal'); before = journal.read()
    os.kill(int((here/'one.pid').read_text()), signal.SIGKILL)
    tab.press('x', 'a', 'x'); tab.page.wait_for_timeout(3000)                       # keys into the void
    check('the kernel is killed: every edit is in the journal', [e.edit for e in type(journal)(journal.path).read()] == [e.edit for e in before] and journal.damaged == 0)
    close = tab.page.locator('.jp-Dialog button.jp-mod-accept')
    if close.count(): close.first.click()
    tab.page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=60_000)
    pid = (here/'one.pid').read_text(); tab.execute('notebook:run-all-cells')
    for _ in range(600):
        if (here/'one.pid').read_text() not in ('', pid): break
        time.sleep(.2)
    tab.page.wait_for_timeout(1000); tab.page.wait_for_selector('.ic-browser[data-image]:not([data-image=""])', timeout=180_000); tab.focus()
    tab.page.select_option('.ic-browser [name=show]', 'edited'); n = edited(); tab.until('edits after the restart', f'e.dataset.n == {n}')
    check('after the restart the edits are there', True)
    s = tab.state(); tab.focus(); tab.press('u'); tab.message('undone')
    check('and can be undone', last().action == 'undo' and last().id == s['id'], last())
    check('no cell of the notebook was lost', tab.cells() == cells); check('no error in the page', not (tab.errors + two.errors), tab.errors + two.errors)


if __name__ == '__main__': main()
