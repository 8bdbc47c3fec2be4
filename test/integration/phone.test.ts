// The reports on a phone: laid out by a browser 390 pixels wide, where nothing is cut off, no number is wrapped and all text
// of charts is legible.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after } from 'node:test';
import { pathToFileURL } from 'node:url';
import { comparisonPage } from '../../src/compare/page.js';
import type { ComparisonResult } from '../../src/compare/result.js';
import { buildReport } from '../../src/report/run/index.js';
import { chromium, noBrowser } from '../support/browser.js';
import { root } from '../support/installed.js';
import { assertReadable, type Layout } from '../support/layout.js';
import { writeRun } from '../support/run-folder.js';

const folder = mkdtempSync(join(tmpdir(), 'groupgrad-phone-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function layOut(html: string): Layout {
  // In a frame, because a browser's window cannot be as narrow as a phone.
  const frame = html.replaceAll('&', '&amp;').replaceAll('"', '&quot;');
  const program = `
    document.querySelector('iframe').onload = ({ target }) => {
      const layout = measurePage(target.contentDocument);
      document.body.innerHTML = '<pre></pre>';
      document.querySelector('pre').textContent = JSON.stringify(layout);
    };`;
  const script = readFileSync(join(root, 'test', 'support', 'measure-page.browser.js'), 'utf8');
  const path = join(folder, 'phone.html');
  writeFileSync(
    path,
    `<!doctype html><meta charset="utf-8"><body><iframe style="width:390px;height:844px;border:0"></iframe>
     <script>${script}${program}document.querySelector('iframe').srcdoc = document.querySelector('iframe').dataset.page;</script>`.replace(
      '<iframe ',
      () => `<iframe data-page="${frame}" `,
    ),
  );
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--virtual-time-budget=10000'];
  const args = [...flags, `--user-data-dir=${join(folder, 'profile')}`, '--dump-dom', pathToFileURL(path).href];
  const { stdout, stderr } = spawnSync(chromium, args, { encoding: 'utf8', maxBuffer: 1 << 27, timeout: 120_000 });
  const text = /<pre>([\s\S]*?)<\/pre>/.exec(stdout)?.[1];
  assert.ok(text, stderr);
  return JSON.parse(text.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&')) as Layout;
}

test('the report of a run on a phone', { skip: noBrowser }, async () => {
  const dir = join(folder, 'run');
  writeRun(dir, 400);
  const html = await buildReport(dir);
  assertReadable(layOut(html));
  assert.match(html, /Groups sampled again[\s\S]*<figcaption>Dynamic sampling draws further rounds/);
});

test('the report of a comparison on a phone, with its curves first', { skip: noBrowser }, () => {
  const file = join(root, 'bench', 'results', 'hadw-mixture.json');
  const result = JSON.parse(readFileSync(file, 'utf8')) as ComparisonResult;
  const layout = layOut(comparisonPage('mixture', result));
  assertReadable(layout);
  assert.match(layout.headings[0], /^Curves, /);
});
