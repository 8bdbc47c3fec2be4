// The API reference matches the docstrings, and links have targets: those of all pages in the checkout, README's also in
// the package.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import test from 'node:test';
import packageJson from '../../package.json' with { type: 'json' };
import { root } from '../support/installed.js';
import { typescript } from '../support/native.js';
import { runProgram } from '../support/run-program.js';
import { slowSet } from '../support/sets.js';

test('docs/api is up to date', { skip: slowSet('runs TypeDoc') }, () => {
  const { status, output } = runProgram(process.execPath, ['scripts/api-docs.mjs', '--check'], { cwd: root });
  assert.equal(status, 0, output);
});

for (const [what, script] of [
  ["the types of the trainer's options are those of its schema", 'option-types'],
  ['docs/metrics.md is the table of metrics', 'metrics-docs'],
  ["the defaults of the C entry are TypeScript's", 'native-defaults'],
]) {
  test(what, () => {
    const args = [...typescript, `scripts/${script}.mjs`, '--check'];
    const { status, output } = runProgram(process.execPath, args, { cwd: root });
    assert.equal(status, 0, output);
  });
}

const docs = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).filter((path) =>
  path.endsWith('.md'),
);
const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...docs.map((path) => join('docs', path))];

/** Targets of links and pictures outside of code. */
function linksOf(page: string): string[] {
  const text = readFileSync(join(root, page), 'utf8').replace(/```[\s\S]*?```|`[^`\n]*`/g, '');
  const markdown = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target);
  const html = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, target]) => target);
  return [...markdown, ...html].filter((target) => !/^[a-z]+:/.test(target));
}

/** Anchors that GitHub generates for headings. */
function anchorsOf(page: string): Set<string> {
  const seen = new Map<string, number>();
  const anchors = new Set<string>();
  const text = readFileSync(join(root, page), 'utf8').replace(/```[\s\S]*?```/g, '');
  for (const [, heading] of text.matchAll(/^#+ (.+)$/gm)) {
    const name = heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-');
    const count = seen.get(name) ?? 0;
    seen.set(name, count + 1);
    anchors.add(count === 0 ? name : `${name}-${count}`);
  }
  return anchors;
}

test('every link of README and the docs leads to a file and a heading', () => {
  for (const page of pages) {
    for (const link of linksOf(page)) {
      const [path, anchor] = link.split('#');
      const target = path === '' ? page : relative(root, join(root, dirname(page), path));
      assert.ok(existsSync(join(root, target)), `${page}: ${link}`);
      if (anchor !== undefined && target.endsWith('.md')) assert.ok(anchorsOf(target).has(anchor), `${page}: ${link}`);
    }
  }
});

test('README links to nothing that is missing from the package', () => {
  const kept = [...packageJson.files.filter((path) => !path.startsWith('!')), 'LICENSE', 'README.md'];
  const left = packageJson.files.filter((path) => path.startsWith('!')).map((path) => path.slice(1));
  const isIn = (path: string, folders: string[]) => folders.some((f) => path === f || path.startsWith(`${f}/`));
  for (const link of linksOf('README.md')) {
    const target = link.split('#')[0];
    assert.ok(target === '' || (isIn(target, kept) && !isIn(target, left)), link);
  }
});

test("npm knows the project's repository and pages", () => {
  const { repository, homepage, bugs, keywords } = packageJson;
  const place = /^git\+(https:\/\/\S+)\.git$/.exec(repository.url)?.[1];
  assert.ok(place, repository.url);
  assert.equal(homepage, `${place}#readme`);
  assert.equal(bugs.url, `${place}/issues`);
  assert.ok(keywords.includes('grpo') && keywords.length >= 8);
});
