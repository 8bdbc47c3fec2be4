// The ladder study: how close do HA-DW's advantages come to the true ones, and do they help a policy to learn? It uses bandits
// whose success probabilities are known, so that no reference value has to be estimated.
//
//   npm run study:ladder               tables; bench/results/hadw-ladder.json; docs/figures/hadw-ladder-*.svg
//   npm run study:ladder -- --quick    a smaller version to look at: writes nothing
//   … --out FOLDER                     writes results and figures there instead
//
// The results are reproducible: random numbers are addressed by their purpose, and advantages are computed by the
// device `reference`, whatever the processor.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { StudyConfiguration } from './ladder/configuration.js';
import { figuresOf } from './ladder/figures.js';
import { resultsFile, runStudy } from './ladder/results.js';
import { tablesOf } from './ladder/tables.js';

const full: StudyConfiguration = {
  seed: 1,
  arms: 50,
  rungs: [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98],
  // Fifty prompts each, with a mean success of exactly .2, .5 and .8.
  mixtures: {
    weak: [21, 13, 7, 4, 2, 2, 1],
    even: [7, 7, 7, 8, 7, 7, 7],
    strong: [1, 2, 2, 4, 7, 13, 21],
  },
  groupSizes: [4, 8, 16],
  advantageScales: ['none', 'group-std'],
  hadwScales: [0.5, 0.8, 1, 1.3, 1.5, 2],
  hadwScale: 1.3,
  anchors: {
    'window 10': { update: 'window', window: 10, timing: 'prior' },
    'window 10, posterior': { update: 'window', window: 10, timing: 'posterior' },
    kalman: { update: 'kalman', timing: 'prior' },
    'kalman, posterior': { update: 'kalman', timing: 'posterior' },
    'window 3': { update: 'window', window: 3, timing: 'prior' },
    'window 50': { update: 'window', window: 50, timing: 'prior' },
    'batch mean': { update: 'window', window: 1, timing: 'posterior' },
  },
  simulation: {
    batches: 1000,
    warmup: 50,
    anchors: ['window 10', 'window 10, posterior', 'kalman', 'kalman, posterior'],
  },
  learning: {
    seeds: 20,
    samplesPerPrompt: 1600,
    learningRate: 0.5,
    groupSize: 8,
    mixture: 'even',
    anchor: 'window 10',
    points: 20,
  },
};

const quick: StudyConfiguration = {
  ...full,
  simulation: { ...full.simulation, batches: 100, warmup: 20 },
  learning: { ...full.learning, seeds: 2, samplesPerPrompt: 320, points: 10 },
};

function inRepository(folder: string): string {
  return fileURLToPath(new URL(`../../${folder}`, import.meta.url));
}

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false }, out: { type: 'string' } } });
const started = performance.now();
const results = runStudy(values.quick ? quick : full, (text) => process.stderr.write(`${text}\n`));
for (const { title, lines } of tablesOf(results)) console.log(`\n${title}\n\n${lines.join('\n')}`);

const folders = values.out
  ? { results: values.out, figures: values.out }
  : values.quick
    ? undefined
    : { results: inRepository('bench/results'), figures: inRepository('docs/figures') };
if (folders) {
  for (const folder of Object.values(folders)) mkdirSync(folder, { recursive: true });
  writeFileSync(join(folders.results, 'hadw-ladder.json'), resultsFile(results));
  for (const { name, svg } of figuresOf(results)) writeFileSync(join(folders.figures, `hadw-ladder-${name}.svg`), svg);
}
process.stderr.write(`${((performance.now() - started) / 1000).toFixed(0)} s\n`);
