// Writes docs/metrics.md from the table of metrics: `npm run docs:metrics`; with --check, says whether it is up to date.

import { readFileSync, writeFileSync } from 'node:fs';
import { charts, metrics } from '../src/base/metrics.ts';

const target = 'docs/metrics.md';

const sections = {
  advantages: [
    'Rewards and advantages',
    'Of `computeAdvantages`, of a loss that is given rewards, and of a step of the trainer.',
  ],
  loss: ['Losses', 'Of every loss, and of a step of the trainer. The symbols are those of [losses.md](losses.md).'],
  trainer: ['Training', 'Of a step of the trainer.'],
  evaluation: ['Evaluations', 'Of the steps in which a run is evaluated.'],
  clock: ['Time', 'In timing.jsonl: these values are others each time that a run is repeated.'],
};

const combinations = {
  sum: 'sum',
  min: 'smallest',
  max: 'largest',
  tokens: 'mean over tokens',
  ratios: 'mean over ratios',
  clips: 'mean over what is counted',
  weights: 'mean over what is counted',
  updates: 'mean over updates',
};

function combinationOf({ combine }) {
  if (combine === undefined) return '';
  const { microBatches, updates } = combine;
  if (microBatches === undefined || microBatches === updates) return combinations[updates];
  return `${combinations[microBatches]} over micro-batches, then ${combinations[updates]}`;
}

/** The titles of the charts that draw a metric, as a line or as the end of a band. */
function chartsOf(name) {
  const lines = Object.entries(metrics).flatMap(([other, { lines: own = [] }]) =>
    own.filter(({ low, high }) => other === name || low === name || high === name),
  );
  return lines.map(({ chart }) => charts[chart].title);
}

function shownIn(name) {
  const titles = chartsOf(name);
  return (titles.length > 0 ? titles.join(', ') : (metrics[name].shownIn ?? '')).replaceAll('<', '\\<');
}

function tableOf(source) {
  const own = Object.entries(metrics).filter(([, metric]) => metric.source === source);
  const heads = ['metric', 'unit', 'meaning', 'parts of a step', 'in a report'];
  const rows = own.map(([name, metric]) => [
    `\`${name}\``,
    metric.unit,
    metric.doc,
    combinationOf(metric),
    shownIn(name),
  ]);
  const used = heads.map((_, i) => i < 3 || rows.some((row) => row[i] !== ''));
  const line = (cells) =>
    `|${cells.flatMap((cell, i) => (used[i] ? [cell === '' ? ' ' : ` ${cell} `] : [])).join('|')}|`;
  return [line(heads), line(heads.map(() => '---')), ...rows.map(line)].join('\n');
}

const text = [
  '# Metrics',
  '<!-- Written by `npm run docs:metrics` from src/base/metrics.ts, where changes belong. -->',
  'What calls return as `metrics` and what a run records in metrics.jsonl, timing.jsonl and its TensorBoard file. A share is a ' +
    'number from 0 to 1; the unit 1 means that there is none.',
  'A step of the trainer may make several updates, each of several micro-batches. "Parts of a step" says how their values become one: ' +
    'means are weighted by how many tokens, ratios or other values a part has, and the smallest and the largest are those of parts with a ' +
    'token. Other metrics are computed once, of all completions of the step.',
  'A [report](trainer.md#a-run-folder) draws what the last column names; it has a chart for each further metric of metrics.jsonl, ' +
    'under "Other metrics".',
  ...Object.entries(sections).flatMap(([source, [title, about]]) => [`## ${title}`, about, tableOf(source)]),
].join('\n\n');

if (!process.argv.includes('--check')) writeFileSync(target, `${text}\n`);
else if (readFileSync(target, 'utf8') !== `${text}\n`) {
  console.error(`${target} is not what src/base/metrics.ts says: npm run docs:metrics`);
  process.exit(1);
}
