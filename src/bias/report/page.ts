// The page of the bias study: what the bias is, its figures, and each theoretical number next to the simulated one.

import { chartIds, numberCell, renderCharts, renderPage, renderTable } from '../../report/page.js';
import { markup } from '../../report/text.js';
import { advantageBias, averageUnderestimation, expectedBaseline, gradientShare } from '../bernoulli.js';
import { type BiasSettings, type Comparison, largestDeviation, sigma } from '../bias-study.js';
import { biasFigures, type Figure } from './figures.js';
import { agreement, type BiasTable, biasTables, decimals, deviations } from './tables.js';

export function biasPage(comparisons: readonly Comparison[], settings: BiasSettings): string {
  const { groupSizes, samples, seed } = settings;
  const nextId = chartIds();
  const figures = biasFigures(comparisons, settings);
  const tables = biasTables(comparisons, settings);
  const charts = (...names: string[]) =>
    renderCharts(
      names.map((name) => figures.find((figure: Figure) => figure.name === name)!.chart),
      nextId,
    );
  const tablesOf = (pattern: RegExp) => tables.filter(({ title }) => pattern.test(title)).map(renderBiasTable);
  const largest = largestDeviation(comparisons);
  const [least, most] = [Math.min(...groupSizes), Math.max(...groupSizes)];
  return renderPage({
    title: 'The bias of group-relative advantages',
    kind: 'bias report',
    tiles: [
      { label: 'Numbers compared', value: String(comparisons.length) },
      { label: 'Simulated groups for each', value: String(samples), note: `seed ${seed}` },
      { label: 'Largest deviation', value: decimals(Math.abs(largest.deviation), 1), note: 'standard errors' },
      { label: `Bias at p = 0.1, G = ${least}`, value: decimals(advantageBias(0.1, least), 3, true) },
      { label: `Bias at p = 0.1, G = ${most}`, value: decimals(advantageBias(0.1, most), 3, true) },
    ],
    parts: [
      '<h2>What is compared</h2>',
      paragraph(
        'A prompt’s responses are right with probability p. The advantage of a response is A = r − p; what GRPO and its relatives use is Â = r − p̂, with the mean reward p̂ of a group of G responses in place of p. Over all groups p̂ is unbiased. But a group whose responses are all right or all wrong has no gradient: learning sees only the others (the event S), and in these p̂ is drawn towards one half.',
      ),
      paragraph(
        'The formulas are those of “Your Group-Relative Advantage Is Biased” (arXiv 2601.08521): lemma 2, theorems 2 and 4, tables 4 to 6. Every number is also simulated: groups of random rewards go through computeAdvantages, and its group means, advantages and groups with a gradient are counted. In tables, the first number is the theory; below it stand the simulated one ± its standard error, and the deviation in standard errors.',
      ),
      paragraph(agreement(comparisons, largest, samples)),
      '<h2>The bias</h2>',
      ...biasExamples(least, most).map(paragraph),
      charts('bias', 'bias-baseline'),
      ...tablesOf(/^Bias of the advantage/),
      '<h2>Groups without a gradient</h2>',
      paragraph(
        `A prompt that is solved 2 % of the time leaves ${percent(1 - gradientShare(0.02, most))} of groups of ${most} without a gradient: learning sees none of these.`,
      ),
      charts('bias-gradient-share', 'bias-underestimated'),
      ...tablesOf(/^Groups with a gradient/),
      '<h2>How often advantages are misjudged</h2>',
      paragraph(
        `Below p = 1/G every group with a gradient has more right responses than expected: the advantage is underestimated with certainty, and overestimated with certainty above 1 − 1/G (corollary 3). In between the probability jumps where one response more is needed to exceed p, and for a single p it may be less than one half; averaged over hard prompts it is above one half: ${percent(averageUnderestimation(0.5, most))} over p < 0.5 for G = ${most}.`,
      ),
      ...tablesOf(/^(How often|Underestimated)/),
      '<h2>Rewards between 0 and 1</h2>',
      paragraph(
        `The bias is not a matter of rewards of 0 and 1. Here rewards are continuous, and the groups that count are those whose largest and smallest reward differ by more than ${sigma} (theorem 4). Among such groups the mean is drawn towards the middle again, less so the larger the group.`,
      ),
      charts('bias-beta', 'bias-truncated-gaussian'),
      ...tablesOf(/^Bias for continuous/),
    ],
  });
}

function biasExamples(least: number, most: number): string[] {
  const p = 0.05;
  const seen = expectedBaseline(p, most);
  const bias = (groupSize: number) => decimals(advantageBias(0.1, groupSize), 3, true);
  return [
    `At p = ${p}, groups of ${most} with a gradient are right ${percent(seen)} of the time on average, ${(seen / p).toFixed(1)} times as often as the policy. A right response’s advantage is then estimated as ${decimals(1 - seen, 3)} instead of ${1 - p}: rare right answers on hard prompts get too little weight. On easy prompts it is the other way round, and at p = 0.5 there is no bias.`,
    `Larger groups have less bias: at p = 0.1 the bias is ${bias(least)} for G = ${least}${most === least ? '' : ` and ${bias(most)} for G = ${most}`}. As groups grow it vanishes, together with the groups that have no gradient.`,
  ];
}

function paragraph(text: string): string {
  return `<p>${markup(text)}</p>`;
}

function renderBiasTable({ title, note, label, groupSizes, rows, signed }: BiasTable): string {
  const cell = ({ theory, simulated, standardError, deviation }: Comparison) =>
    numberCell(
      `${markup(decimals(theory, 4, signed))}<br><small>${markup(`${decimals(simulated, 4, signed)} ± ${decimals(standardError, 4)}`)} (${markup(deviations(deviation).trim())})</small>`,
    );
  const table = renderTable(
    [markup(label), ...groupSizes.map((groupSize) => `G = ${groupSize}`)],
    rows.map((row) => `<td>${markup(row.label)}</td>${row.cells.map(cell).join('')}`),
  );
  return `<h3>${markup(title)}</h3>${note ? `<p class="muted">${markup(note)}</p>` : ''}${table}`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
