// `groupgrad bias`: its output, its files and its errors.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import type { Comparison } from '../../src/bias/bias-study.js';
import { callInThread } from '../support/cli.js';
import { elements } from '../support/markup.js';
import { root } from '../support/native.js';
import { slowSet } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

const bias = (...args: string[]) => callInThread('bias', ...args);

const quick = ['--group-sizes', '2,3,5,8,16', '--samples', '300'];

test('is listed, and has a help text', () => {
  const { status, stdout } = bias('--help');
  assert.equal(status, 0);
  assert.match(stdout, /^groupgrad bias \[flags\]\n/);
  assert.match(stdout, /--group-sizes LIST {2}default: 2,4,6,8\n/);
});

test('prints tables of 80 columns, with group sizes that do not fit in further tables', () => {
  const { status, stdout, stderr } = bias(...quick);
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  const lines = stdout.split('\n');
  for (const line of lines) assert.ok(line.length <= 80, line);
  assert.equal(lines.filter((line) => /^mean +G = 2 +G = 3 +G = 5 +G = 8$/.test(line)).length, 2);
  assert.equal(lines.filter((line) => /^mean +G = 16$/.test(line)).length, 2);
  // Lemma 2 by hand for p = 0.2 and G = 3: 0.2 (1 − 0.04) / (1 − 0.512 − 0.008) − 0.2 = 0.2.
  const row = lines
    .slice(lines.findIndex((line) => line.startsWith('Bias of the advantage')))
    .find((line) => line.startsWith('0.2 '))!;
  assert.match(row, /^0\.2 +\+0\.3000 \( 0\.0\) +\+0\.2000 \(/);
  assert.match(stdout, /numbers, each from 300 simulated groups/);
});

test('--json gives every number, its simulation, and the settings', () => {
  const { status, stdout } = bias(...quick, '--json', '--seed', '7', '--epsilon', '0.25');
  assert.equal(status, 0);
  const { settings, comparisons } = JSON.parse(stdout) as { settings: object; comparisons: Comparison[] };
  assert.deepEqual(settings, {
    groupSizes: [2, 3, 5, 8, 16],
    samples: 300,
    seed: 7,
    epsilon: 0.25,
    sigma: 0.3,
    rewards: {
      beta: 'Beta(a, b) with a + b = 2',
      'truncated-gaussian': 'a Gaussian of standard deviation 0.2, cut off outside [0, 1]',
    },
  });
  const one = comparisons.find(
    ({ quantity, groupSize, p, epsilon }) =>
      quantity === 'underestimated' && groupSize === 2 && p === 0.1 && epsilon === 0.25,
  )!;
  assert.deepEqual([one.theory, one.simulated, one.standardError, one.deviation], [1, 1, 0, 0]);
  assert.ok(one.groups > 20 && one.groups < 100, 'the groups with a gradient, 18 % of 300');
});

test('--out and --figures write a page and figures that are self-contained', (t) => {
  const folder = temporaryFolder(t);
  const page = join(folder, 'bias.html');
  const figures = join(folder, 'new', 'figures');
  const { status, stdout, stderr } = bias(...quick, '--out', page, '--figures', figures);
  assert.equal(status, 0, stderr);
  const html = readFileSync(page, 'utf8');
  const all = elements(html);
  const texts = (name: string) => all.filter((element) => element.name === name).map(({ text }) => text);
  assert.deepEqual(texts('h1'), ['The bias of group-relative advantages']);
  assert.equal(all.filter(({ name }) => name === 'svg').length, 6);
  // Each of the seven tables has a heading row; those of 11, 11, 10, 10, 3, 5 and 5 rows.
  assert.equal(texts('tr').length, 7 + 11 + 11 + 10 + 10 + 3 + 5 + 5);
  const outside = html.replace(/<script>[\s\S]*?<\/script>/g, '').replaceAll('http-equiv', '');
  assert.doesNotMatch(outside, /https?:|url\(|@import|src=|href=|\bon\w+=|style="/i);
  assert.doesNotMatch(html, /NaN|Infinity|undefined/);
  const names = [
    'bias-baseline',
    'bias-beta',
    'bias-gradient-share',
    'bias-truncated-gaussian',
    'bias-underestimated',
    'bias',
  ];
  assert.deepEqual(
    readdirSync(figures).sort(),
    names.map((name) => `${name}.svg`),
  );
  for (const name of names) {
    const file = join(figures, `${name}.svg`);
    const [svg] = elements(readFileSync(file, 'utf8').trim());
    assert.equal(svg.attributes.xmlns, 'http://www.w3.org/2000/svg');
    assert.ok(stdout.includes(`${file}\n`));
  }
  assert.ok(stdout.endsWith(`${page}\n`));
  assert.deepEqual(readdirSync(folder).sort(), ['bias.html', 'new']);
});

test('with --json, written files are reported on standard error', (t) => {
  const page = join(temporaryFolder(t), 'bias.html');
  const { stdout, stderr } = bias('--group-sizes', '2', '--samples', '100', '--json', '--out', page);
  assert.equal(stderr, `${page}\n`);
  assert.doesNotThrow(() => JSON.parse(stdout));
  assert.ok(existsSync(page));
});

const skip = slowSet('simulates groups of 1024');
test('results of few groups, of which perhaps none counts, are shown unchanged', { skip }, () => {
  // Groups of 2 with a mean of 0.16 differ by more than 0.3 in 8 % of 100.
  const { status, stdout } = bias('--group-sizes', '1024', '--samples', '100', '--epsilon', '0');
  assert.equal(status, 0);
  assert.doesNotMatch(stdout, /NaN|Infinity|undefined/);
  assert.equal(stdout.match(/^How often/gm)?.length, 1);
});

test('invalid arguments are rejected with exit code 2 and the name of the flag', () => {
  const wrong: [string[], string][] = [
    [['--group-sizes', '2,1'], '--group-sizes: expected an integer at least 2 and at most 1024, got "1"'],
    [['--group-sizes', '2,,4'], '--group-sizes: expected an integer at least 2 and at most 1024, got ""'],
    [['--group-sizes', '4,2,4'], '--group-sizes: expected each size once, got "4,2,4"'],
    [['--samples', '10'], '--samples: expected an integer at least 100 and at most 100000000, got "10"'],
    [['--seed', '-1'], "Option '--seed' argument is ambiguous."],
    [['--epsilon', '2'], '--epsilon: expected a finite number at least 0 and at most 1, got "2"'],
    [['now'], 'expected no argument, got now'],
  ];
  for (const [args, message] of wrong) {
    const { status, stdout, stderr } = bias(...args);
    assert.equal(status, 2, args.join(' '));
    assert.equal(stdout, '');
    assert.ok(stderr.startsWith(`groupgrad: ${message}`), stderr);
  }
});

test('a page that cannot be written is a failure that names it', () => {
  const { status, stderr } = bias(
    '--group-sizes',
    '2',
    '--samples',
    '100',
    '--out',
    join(root, 'no', 'such', 'bias.html'),
  );
  assert.equal(status, 1);
  assert.match(stderr, /^groupgrad: .*ENOENT.*bias\.html/);
});
