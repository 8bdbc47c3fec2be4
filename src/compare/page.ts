// The report of a comparison: one self-contained HTML page.

import { passes } from '../evaluation/estimators.js';
import type { Estimate } from '../evaluation/statistics.js';
import { interval, pText } from '../evaluation/text.js';
import { chartIds, numberCell, renderCharts, renderPage, renderTable, type Tile } from '../report/page.js';
import { flatten, renderSettings } from '../report/settings.js';
import { markup } from '../report/text.js';
import { differences } from '../run/drift.js';
import { duration } from '../train/progress.js';
import { benchmarkNote, benchmarkTables } from './benchmark-table.js';
import { everything } from './buckets.js';
import { curveCharts } from './curves.js';
import type { ProbeSettings } from './plan.js';
import type { ComparisonResult } from './result.js';
import type { PairQuantity, PairSummary, Quantity, VariantSummary } from './summary.js';
import { halfText, seedList } from './table.js';

export function comparisonPage(title: string, result: ComparisonResult): string {
  const nextId = chartIds();
  const curves = curveCharts(result);
  return renderPage({
    title,
    kind: 'comparison report',
    notes: result.notes,
    tiles: tiles(result),
    parts: [
      benchmarkSection(result),
      ...curves.flatMap(({ bucket, charts, pairs }) => [
        `<h2>Curves, ${bucketTitle(result, bucket)}</h2>`,
        renderCharts(charts, nextId),
        pairs.length > 0 ? `<h3>By pair</h3>${renderCharts(pairs, nextId)}` : '',
      ]),
      ...(result.configuration.probe
        ? [
            startSection(result, result.configuration.probe),
            variantSection(result),
            pairSection(result),
            halfSection(result),
          ]
        : [trainingSection(result)]),
      runSection(result),
      configurationSection(result),
    ],
  });
}

function paragraph(text: string): string {
  return `<p class="muted">${markup(text)}</p>`;
}

function tiles({ configuration: plan, seeds, runs }: ComparisonResult): Tile[] {
  const finished = runs.filter(({ state }) => state === 'finished');
  const measured = seeds.filter(({ state }) => state === 'measured');
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  return [
    { label: 'Runs finished', value: String(finished.length), note: `of ${runs.length}` },
    { label: 'Variants', value: String(plan.variants.length) },
    { label: 'Seeds', value: String(plan.seeds.length) },
    ...(plan.probe
      ? [
          {
            label: 'Prompts measured',
            value: String(sum(measured.map(({ prompts }) => prompts))),
            note: `${sum(measured.map(({ aside }) => aside))} in no bucket`,
          },
        ]
      : []),
    { label: 'Training time of all runs', value: duration(sum(runs.map(({ seconds }) => seconds))) },
  ];
}

function benchmarkSection(result: ComparisonResult): string {
  const tables = benchmarkTables(result).map(({ title, head, rows }, i) => {
    const cells = rows.map(([first, ...rest]) => [
      `<td>${markup(first)}</td>`,
      ...rest.map((cell) => numberCell(markup(cell))),
    ]);
    const name = i === 0 ? `<h2>${title}</h2>${paragraph(benchmarkNote(result))}` : `<h3>${title}</h3>`;
    return (
      name +
      renderTable(
        head.map(markup),
        cells.map((row) => row.join('')),
      )
    );
  });
  return tables.join('\n');
}

/** The results of variants without a probe. */
function trainingSection(result: ComparisonResult): string {
  return `<h2>Variants</h2><h3>Groups without a gradient in training</h3>${trainingTable(result)}`;
}

function bucketTitle({ configuration: { buckets } }: ComparisonResult, bucket: string): string {
  if (bucket === everything) return 'all buckets together';
  const [low, high] = buckets[bucket];
  return markup(`${bucket} (${low} to ${high} right before training)`);
}

function startSection({ configuration: { buckets }, seeds }: ComparisonResult, probe: ProbeSettings): string {
  const measured = seeds.filter(({ state }) => state === 'measured');
  if (measured.length === 0) return '';
  const names = [...Object.keys(buckets), everything];
  const rows = measured.map((one) =>
    [
      `<td>${one.seed}</td>`,
      ...names.map((name) => {
        const { prompts, 'pass@1': first } = one.buckets[name];
        const share = first === null ? '' : ` <small>${(100 * first).toFixed(1)} %</small>`;
        return numberCell(`${prompts}${share}`);
      }),
      numberCell(String(one.aside)),
    ].join(''),
  );
  return [
    '<h2>Before training</h2>',
    paragraph(
      `Prompts in each bucket, by the share right among ${probe.measure} completions of the policy that all variants begin from; ` +
        `small: the share right among ${probe.samples} other completions, which did not affect the choice of prompts.`,
    ),
    renderTable(['Seed', ...names.map(markup), 'In no bucket'], rows),
  ].join('\n');
}

/** A table of variants by buckets. */
function variantTable(result: ComparisonResult, cell: (summary: VariantSummary) => string): string {
  const { configuration: plan, summary } = result;
  const names = [...Object.keys(plan.buckets), everything];
  const rows = plan.variants.map((variant) =>
    [
      `<td>${markup(variant)}</td>`,
      ...names.map((bucket) =>
        numberCell(cell(summary.variants.find((one) => one.variant === variant && one.bucket === bucket)!)),
      ),
    ].join(''),
  );
  return renderTable(['Variant', ...names.map(markup)], rows);
}

const shown: readonly [Quantity, string][] = [
  ['pass@1', 'pass@1 at the end'],
  [`pass@${passes}`, `pass@${passes} at the end`],
  ['pass@1/mean', 'pass@1, mean over the run by tokens'],
  ['frac_reward_zero_std/mean', 'Groups without a gradient, mean over the run'],
];

function variantSection(result: ComparisonResult): string {
  const parts = shown.map(
    ([quantity, title]) =>
      `<h3>${title}</h3>${variantTable(result, ({ quantities }) => estimateText(quantities[quantity]))}`,
  );
  return [
    '<h2>Variants</h2>',
    paragraph(
      'Percent: mean over seeds of finished runs, with its 95 % bootstrap interval over seeds in brackets. ' +
        `Groups without a gradient: the share of groups of the variant's size that would be all right or all wrong, estimated ` +
        'without bias from the evaluations, by the task’s own score; in training it is measured, over the training prompts.',
    ),
    ...parts,
    '<h3>Groups without a gradient in training</h3>',
    trainingTable(result),
  ].join('\n');
}

function estimateText(estimate: Estimate): string {
  return markup(interval(estimate));
}

function trainingTable({ configuration: { variants }, summary }: ComparisonResult): string {
  const rows = variants.map((variant) => {
    const all = summary.variants.find((one) => one.variant === variant && one.bucket === everything)!;
    return `<td>${markup(variant)}</td>${numberCell(estimateText(all.quantities['train/frac_reward_zero_std']))}`;
  });
  return renderTable(['Variant', 'All training prompts'], rows);
}

const compared: readonly [PairQuantity, string][] = [
  ['pass@1', 'pass@1 at the end'],
  ['pass@1/equal_tokens', 'pass@1 at equal tokens: where the run with fewer tokens ended'],
  [`pass@${passes}`, `pass@${passes} at the end`],
  ['pass@1/mean', 'pass@1, mean over the run by tokens'],
  ['frac_reward_zero_std/mean', 'Groups without a gradient, mean over the run'],
];

function pairSection({ summary: { pairs, seeds } }: ComparisonResult): string {
  if (pairs.length === 0) return '';
  const rows = (quantity: PairQuantity) =>
    pairs.map(({ variant, baseline, bucket, quantities }) => {
      const own = quantities[quantity];
      return [
        pairCell({ variant, baseline, bucket }),
        numberCell(markup(interval(own, true))),
        numberCell(markup(pText(own.p))),
        numberCell(markup(seedList(own.values))),
      ].join('');
    });
  const head = ['Variant − baseline, bucket', 'Difference', 'p', `Seeds ${seeds.join(', ')}`];
  return [
    '<h2>Differences</h2>',
    paragraph(
      'Percentage points, paired: both runs of a seed begin from the same weights and take the same prompts in the same order. ' +
        'Intervals: 95 %, expanded percentile bootstrap over seeds (10,000 resamples of the differences). ' +
        'p: two-sided, over all ways to choose the signs of the differences; without correction for multiple comparisons.',
    ),
    ...compared.map(([quantity, title]) => `<h3>${title}</h3>${renderTable(head, rows(quantity))}`),
  ].join('\n');
}

function pairCell({ variant, baseline, bucket }: Pick<PairSummary, 'variant' | 'baseline' | 'bucket'>): string {
  return `<td>${markup(`${variant} − ${baseline}`)} <small>${markup(bucket)}</small></td>`;
}

function halfSection(result: ComparisonResult): string {
  const { pairs } = result.summary;
  const counts = ({ half }: PairSummary) =>
    (['earlier', 'same', 'later', 'neither'] as const).map((name) => numberCell(String(half[name]))).join('');
  const rows = pairs.map(
    (pair) => `<td>${markup(`${pair.variant} − ${pair.baseline}`)}</td><td>${markup(pair.bucket)}</td>${counts(pair)}`,
  );
  return [
    '<h2>Steps to 50 %</h2>',
    paragraph(
      'The first evaluation in which pass@1 of the bucket was at least 50 %: the median over seeds, counting a run that never reached it ' +
        'as the latest, and the number of runs that reached it. 0: from the start.',
    ),
    variantTable(result, ({ half }) => markup(halfText(half))),
    pairs.length > 0
      ? `<h3>Which was first, by seed</h3>${renderTable(['Variant − baseline, bucket', 'Earlier', 'Same', 'Later', 'Neither'], rows)}`
      : '',
  ].join('\n');
}

function runSection({ runs }: ComparisonResult): string {
  const rows = runs.map(({ variant, seed, state, steps, tokens, seconds }) =>
    [
      `<td>${markup(variant)}</td>`,
      numberCell(String(seed)),
      numberCell(state),
      ...[steps, tokens].map((count) => numberCell(count.toLocaleString('en'))),
      numberCell(duration(seconds)),
    ].join(''),
  );
  const head = ['Variant', 'Seed', 'State', 'Steps', 'Tokens sampled in training', 'Time of training'];
  return `<h2>Runs</h2>${renderTable(head, rows)}`;
}

/** The settings that all variants share, and how each variant differs from the baseline. */
function configurationSection({ configuration, version, machine }: ComparisonResult): string {
  const { identity, baseline, variants, ...plan } = configuration;
  const changes = variants
    .filter((name) => name !== baseline)
    .map((name): [string, string] => {
      const found = differences(identity.variants[baseline], identity.variants[name]);
      return [name, found.join('; ') || 'nothing'];
    });
  return [
    '<h2>Configuration</h2>',
    `<h3>How variants differ from ${markup(baseline)}</h3>`,
    renderSettings(changes),
    '<h3>All settings</h3>',
    renderSettings(
      flatten({ version, machine, baseline, ...plan, ...identity.common, ...identity.variants[baseline] }),
    ),
  ].join('\n');
}
