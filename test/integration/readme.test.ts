// README for a reader in a hurry: its links at the top, its picture, commands before tables; and its tfjs loop, which runs unchanged
// in plain Node with only tfjs-core and the WebAssembly backend, and learns.

import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { installedProject, root } from '../support/installed.js';
import { snippetsOf } from '../support/snippets.js';

const text = readFileSync(join(root, 'README.md'), 'utf8');

test('the tfjs loop learns under plain Node with tfjs-core and the WebAssembly backend', () => {
  const project = installedProject(['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm']);
  try {
    const loop = snippetsOf('README.md').find(({ language }) => language === 'js');
    assert.ok(loop, 'README has no js block');
    project.write('loop.mjs', loop.code);
    const { status, stdout, output } = project.node('loop.mjs');
    assert.equal(status, 0, output);
    const rewards = [...stdout.matchAll(/^step \d+: reward ([\d.]+)$/gm)].map(([, reward]) => Number(reward));
    assert.ok(rewards.length >= 3 && rewards.at(-1)! > 0.9 && rewards.at(-1)! > rewards[0] + 0.2, output);
  } finally {
    project.remove();
  }
});

test('three links at the top lead to sections that begin with a command', () => {
  const doors = [...text.matchAll(/^- \[\*\*.*\*\*\]\(#(.+)\)$/gm)].map(([, anchor]) => anchor);
  assert.equal(doors.length, 3);
  assert.ok(text.indexOf('- [**') < text.indexOf('\n## '), 'the doors stand before the first section');
  const sections = text.split(/^## /m).slice(1);
  for (const door of doors) {
    const section = sections.find(
      (part) =>
        part
          .split('\n')[0]
          .toLowerCase()
          .replace(/[^\w -]/g, '')
          .replaceAll(' ', '-') === door,
    );
    assert.ok(section, door);
    const command = section.search(/^```\n(npm|npx) /m);
    const table = section.search(/^\|/m);
    assert.ok(command > 0 && command < 200, `${door}: no command at its beginning`);
    assert.ok(table === -1 || table > command, `${door}: a table before the first command`);
  }
  assert.match(text, /npm ci && npm run demo/);
  assert.match(text, /npm ci && npm test/);
});

test('a picture of the report exists and is small', () => {
  const [, path] = /!\[[^\]]+\]\((docs\/figures\/[^)]+\.(?:png|svg))\)/.exec(text)!;
  assert.ok(statSync(join(root, path)).size < 200 * 1024);
});
