// The ladder study as a program, its committed results, and the page that describes them.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { figuresOf } from '../../examples/studies/ladder/figures.js';
import { distance } from '../../examples/studies/ladder/fixed-policy.js';
import { labels, nameOf } from '../../examples/studies/ladder/methods.js';
import { type Learned, resultsFile, type StudyResults } from '../../examples/studies/ladder/results.js';
import { tablesOf } from '../../examples/studies/ladder/tables.js';
import { digits } from '../../examples/studies/markdown.js';
import { root, typescript } from '../support/native.js';
import { slowSet, trainingSet } from '../support/sets.js';
import { temporaryFolder } from '../support/trainer.js';

const committedText = readFileSync(join(root, 'bench/results/hadw-ladder.json'), 'utf8');
const committed: StudyResults = JSON.parse(committedText);

function runStudy(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [...typescript, 'examples/studies/ladder.ts', ...args],
    { cwd: root, encoding: 'utf8', timeout: 600_000 },
  );
  assert.equal(status, 0, `${stdout}\n${stderr}`);
  return stdout;
}

test('the shortened study agrees with theory and with the committed expectations, and writes what it prints', {
  skip: slowSet('simulates for ten seconds'),
}, (t) => {
  const out = temporaryFolder(t);
  const printed = runStudy('--quick', '--out', out);
  const text = readFileSync(join(out, 'hadw-ladder.json'), 'utf8');
  const results: StudyResults = JSON.parse(text);
  assert.equal(resultsFile(results), text);
  assert.deepEqual(results.cells, committed.cells);
  assert.deepEqual(results.batches, committed.batches);
  assertWithinFourErrors(results);
  for (const { title, lines } of tablesOf(results)) assert.ok(printed.includes(`${title}\n\n${lines.join('\n')}\n`));
  const files = figuresOf(results).map(({ name, svg }) => {
    assert.equal(readFileSync(join(out, `hadw-ladder-${name}.svg`), 'utf8'), svg);
    return `hadw-ladder-${name}.svg`;
  });
  assert.deepEqual(readdirSync(out).sort(), [...files, 'hadw-ladder.json'].sort());
});

test('every simulated mean of the committed study is within four standard errors of theory', () => {
  const { groupSizes, advantageScales, mixtures, simulation } = committed.configuration;
  const settings = groupSizes.length * advantageScales.length * Object.keys(mixtures).length;
  assert.equal(committed.simulations.length, settings * simulation.anchors.length);
  assertWithinFourErrors(committed);
});

function assertWithinFourErrors({ simulations, cells }: StudyResults) {
  for (const { mixture, groupSize, scale, rungs, largest } of simulations) {
    for (const rung of rungs) {
      const cell = cells.find((c) => c.scale === scale && c.groupSize === groupSize && c.p === rung.p)!;
      for (const key of ['right', 'wrong', 'gradient'] as const) {
        assert.equal(rung[key].exact, cell.hadw[mixture][key]);
        assert.ok(rung[key].error > 0);
        assert.ok(distance(rung[key]) < 4, `${mixture}, G = ${groupSize}, p = ${rung.p}, ${key}`);
        // Both are rounded.
        assert.ok(distance(rung[key]) <= largest + 0.05);
      }
    }
  }
}

test('the committed study is reproduced by the program', {
  skip: trainingSet('takes minutes'),
}, (t) => {
  const out = temporaryFolder(t);
  runStudy('--out', out);
  assert.equal(readFileSync(join(out, 'hadw-ladder.json'), 'utf8'), committedText);
});

test('the committed figures show the committed results', () => {
  for (const { name, svg } of figuresOf(committed)) {
    assert.equal(readFileSync(join(root, `docs/figures/hadw-ladder-${name}.svg`), 'utf8'), svg, name);
  }
});

const page = readFileSync(join(root, 'docs/hadw.md'), 'utf8');
const section = page
  .slice(page.indexOf('## Study: a ladder where the truth is known'))
  .split(/\n## (?!Study: a ladder)/)[0];

test('docs/hadw.md has the tables of the committed results', () => {
  const known = new Set(tablesOf(committed).map(({ title, lines }) => `*${title}*\n\n${lines.join('\n')}`));
  const shown = section.match(/\*[^\n]+\*\n\n(\|[^\n]+\n)+/g)!.map((text) => text.trimEnd());
  for (const text of shown) assert.ok(known.has(text), text.split('\n')[0]);
  assert.equal(section.match(/^\| ---/gm)!.length, shown.length);
  assert.equal(shown.length, 14);
});

const { learning } = committed.configuration;

function learned(mixture: string, scale: 'none' | 'group-std', label: string): Learned {
  const name = nameOf({ mixture, groupSize: learning.groupSize, scale }, label);
  return committed.learning.find((method) => method.name === name)!;
}

function against(method: Learned, label: string) {
  return method.differences.find((difference) => difference.with.endsWith(`: ${label}`))!;
}

function cell(scale: 'none' | 'group-std', p: number) {
  return committed.cells.find((c) => c.scale === scale && c.groupSize === learning.groupSize && c.p === p)!;
}

function batch(scale: 'none' | 'group-std', mixture: string) {
  return committed.batches.find(
    (b) => b.scale === scale && b.groupSize === learning.groupSize && b.mixture === mixture,
  )!;
}

const lambda = committed.configuration.hadwScale;
const lambdaIndex = committed.configuration.hadwScales.indexOf(lambda);
const weighted = labels.hadw(lambda, learning.anchor);
const sizeAlone = labels.sizeAlone(lambda);

/** Sentences of the page that contain numbers; line breaks count as spaces. */
function claims(): string[] {
  const d = (value: number, count = 3) => digits(value, count);
  const gradient = (p: number, mixture: string) => d(lambda * cell('none', p).hadw[mixture].gradient);
  const hard = cell('none', 0.02);
  const [middle, end] = [cell('group-std', 0.5), cell('group-std', 0.02)];
  const { plain, hadw, hadwBest } = batch('none', 'even');
  const own = learned('even', 'none', weighted);
  const ownStd = learned('even', 'group-std', weighted);
  const gain = (method: Learned) => d(against(method, labels.plain).mean, 4);
  const average = (label: string) => d(learned('even', 'none', label).average.mean, 4);
  const anchors = committed.learning.filter(({ hadw, name }) => hadw && !name.endsWith(`, ${learning.anchor}`));
  const anchorChange = anchors.flatMap((method) => method.differences.filter((x) => x.with.endsWith(`: ${weighted}`)));
  const rung = (mixture: string) => against(learned(mixture, 'none', weighted), sizeAlone).rungs[0].mean;
  return [
    `both ends of the ladder get ${gradient(0.02, 'even')} times the true gradient where the middle gets ${gradient(0.5, 'even')}`,
    `prompts of p = 0.98 get ${gradient(0.98, 'weak')} and those of p = 0.02 get ${gradient(0.02, 'weak')}`,
    `leaves ${d(end.plain.gradient)} of the gradient at p = 0.02 and ${d(middle.plain.gradient)} at p = 0.5`,
    `gets ${d(hard.plain.right)} of the ${d(hard.truth.right)} that are due`,
    `${d(hard.plain.wrong)} instead of ${d(hard.truth.wrong)}`,
    `right answers go from ${d(hard.truth.right - hard.plain.right)} too little`,
    `to ${d(hard.hadw.even.right - hard.truth.right)} too much at λ = 1`,
    `and ${d(lambda * hard.hadw.even.right - hard.truth.right)} too much at λ = 1.3`,
    `the best λ for r − p̂ is ${d(hadwBest.lambda, 2)}, with an error of ${d(hadwBest.error)} against ${d(plain.error)} without`,
    `at λ = 1.3 it is ${d(hadw[lambdaIndex].error)}`,
    `(${d(end.hadw.even.errors[lambdaIndex])} against ${d(end.plain.error)} at p = 0.02)`,
    `(${d(middle.hadw.even.errors[lambdaIndex])} against ${d(middle.plain.error)} at p = 0.5)`,
    `λ = G/(G − 1) would be ${d(4 / 3, 2)} with G = 4 and ${d(8 / 7, 2)} with G = 8`,
    `${committed.configuration.simulation.batches} batches through`,
    `within ${d(Math.max(...committed.simulations.map(({ largest }) => largest)), 2)} standard errors`,
    `with a rate of ${learning.learningRate};`,
    `raises the mean success of r − p̂ by ${gain(own)}.`,
    `A rate 1.3 times as large raises it by ${gain(learned('even', 'none', labels.times(lambda)))}`,
    `the same size of step by ${gain(learned('even', 'none', sizeAlone))}: ${d(against(own, sizeAlone).mean, 4)} are left`,
    `by their deviation ${d(against(ownStd, sizeAlone).mean, 4)} are left`,
    `True advantages gain ${gain(learned('even', 'none', labels.truth.all))} over r − p̂`,
    `leave-one-out gains ${gain(learned('even', 'none', labels.leaveOneOut))}:`,
    `normalised advantages gain ${gain(learned('even', 'group-std', labels.truth.all))} and`,
    `leave-one-out ${gain(learned('even', 'group-std', labels.leaveOneOut))}; HA-DW at λ = 1.3 gains ${gain(ownStd)}`,
    `twice the rate gains ${gain(learned('even', 'none', labels.doubled.twiceRate))}`,
    `(${average(labels.doubled.twiceSamples)} against ${average(weighted)})`,
    `1.3 times as large (${average(labels.times(lambda))})`,
    `at a distance of ${d(learned('even', 'none', labels.hadw(lambda, 'kalman')).anchorError!.mean)}`,
    `the window of ten (${d(own.anchorError!.mean)})`,
    `changes mean success by more than ${d(Math.max(...anchorChange.map(({ mean }) => Math.abs(mean))), 4)}`,
    `at C = 0.8 the hardest rung gains ${d(rung('strong'))} of mean success`,
    `At C = 0.2 it loses ${d(-rung('weak'))}.`,
  ];
}

test('the numbers in docs/hadw.md are those of the committed results', () => {
  const prose = section
    .split('\n')
    .filter((line) => !line.startsWith('|') && !/^\*.*\*$/.test(line))
    .join(' ')
    .replace(/\s+/g, ' ');
  let unchecked = prose;
  for (const claim of claims()) {
    assert.ok(prose.includes(claim), claim);
    unchecked = unchecked.replace(claim, '');
  }
  // Probabilities, levels and λ of the configuration have at most two digits; longer numbers are results.
  assert.deepEqual(unchecked.match(/\d*\.\d{3,}/g), null);
});

test('the conclusions of docs/hadw.md hold for the committed results', () => {
  const { cells, batches, configuration } = committed;
  const { hadwScales, rungs } = configuration;
  const one = hadwScales.indexOf(1);

  // Over all groups r − p̂ is unbiased except for (G − 1)/G; HA-DW's direction is different.
  for (const c of cells.filter(({ scale }) => scale === 'none')) {
    assert.ok(Math.abs(c.plain.gradient - (c.groupSize - 1) / c.groupSize) < 1e-5);
  }
  for (const b of batches) {
    assert.ok(b.hadwBest.gradientCosine < b.plain.gradientCosine);
    // For some λ, the error without weights is smaller than that of any λ with weights.
    assert.ok(b.plainBest.error < b.hadwBest.error);
    for (const { error } of b.hadw) assert.ok(error >= b.hadwBest.error);
    if (b.scale === 'none') {
      assert.ok(b.plain.error < b.hadwBest.error);
      assert.ok(b.hadwBest.lambda > 0.75 && b.hadwBest.lambda < 0.9);
    } else {
      const isLower = b.hadw[lambdaIndex].error < b.plain.error;
      assert.equal(isLower, b.groupSize === 4 && b.mixture === 'even', `G = ${b.groupSize}, ${b.mixture}`);
    }
  }
  // The table of errors: at λ = 1.3 larger everywhere, at λ = 1 smaller on the outer rungs with G = 4.
  const outer = [rungs[0], rungs[1], rungs.at(-2), rungs.at(-1)];
  for (const c of cells.filter(({ scale }) => scale === 'none')) {
    assert.ok(c.hadw.even.errors[lambdaIndex] > c.plain.error);
    assert.equal(c.hadw.even.errors[one] < c.plain.error, c.groupSize === 4 && outer.includes(c.p));
  }
  // At 1.3 and 1.5 fewer than half of the advantages are closer than with r − p̂.
  for (const groupSize of configuration.groupSizes) {
    const ranges = cells
      .filter((c) => c.scale === 'none' && c.groupSize === groupSize)
      .flatMap(({ hadw }) => Object.values(hadw).flatMap(({ nearer }) => [nearer.right, nearer.wrong]));
    for (const l of [1.3, 1.5]) {
      assert.ok(ranges.filter(([low, high]) => low < l && l < high).length < ranges.length / 2);
    }
  }

  const overSize = (mixture: string, scale: 'none' | 'group-std') =>
    against(learned(mixture, scale, weighted), sizeAlone);
  assert.ok(overSize('strong', 'none').low > 0 && overSize('strong', 'group-std').low > 0);
  assert.ok(overSize('even', 'none').low > 0);
  assert.ok(overSize('even', 'group-std').low < 0 && overSize('even', 'group-std').high > 0);
  assert.ok(overSize('weak', 'none').high < 0 && overSize('weak', 'group-std').high < 0);
  for (const mixture of Object.keys(configuration.mixtures)) {
    const { low, high } = against(learned(mixture, 'none', labels.truth.all), labels.leaveOneOut);
    assert.ok(low < 0 && high > 0, mixture);
  }
  for (const scale of configuration.advantageScales) {
    const averages = hadwScales.map((l) => learned('even', scale, labels.hadw(l, learning.anchor)).average.mean);
    const plain = hadwScales.map((l) => learned('even', scale, l === 1 ? labels.plain : labels.times(l)).average.mean);
    for (const values of [averages, plain]) {
      assert.deepEqual(
        values,
        [...values].sort((a, b) => a - b),
      );
    }
  }
});
