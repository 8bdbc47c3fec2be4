// The charts of a report, by section; metrics have the names that the trainer writes.

import { type Chart, format, type Point, type Series } from '../chart.js';
import { curve, type Span, stack } from './curve.js';
import type { Table } from './read.js';

export interface Section {
  title: string;
  charts: Chart[];
  /** Charts of this section for which the run recorded nothing. */
  missing: string[];
}

/** A curve: a metric, and optionally two others for its band. */
interface Line {
  metric: string;
  name: string;
  low?: string;
  high?: string;
  dashed?: boolean;
  color?: number;
}

interface ChartPlan {
  title: string;
  subtitle?: string;
  note?: string;
  lines: (names: readonly string[]) => Line[];
  yIncludes?: readonly number[];
  ordered?: boolean;
}

/** Lines for named metrics. */
const named =
  (...lines: Line[]) =>
  (): Line[] =>
    lines;

/** Lines for all metrics that match a pattern, named by its capture group. */
function matching(pattern: RegExp, names: readonly string[]): Line[] {
  return names.flatMap((metric) => {
    const name = pattern.exec(metric)?.[1];
    return name === undefined ? [] : [{ metric, name }];
  });
}

/** Maximum number of series that a chart can show distinctly. */
const mostSeries = 8;

/** By difficulty, in ascending order; an evenly spaced selection if there are too many. */
function byDifficulty(prefix: string, names: readonly string[]): Line[] {
  const lines = names
    .filter((metric) => metric.startsWith(prefix) && metric.length > prefix.length)
    .map((metric) => ({ metric, name: metric.slice(prefix.length) }))
    .filter(({ name }) => !name.includes('/') && Number.isFinite(Number(name)))
    .sort((a, b) => Number(a.name) - Number(b.name));
  return thin(lines);
}

function thin<T>(lines: readonly T[]): T[] {
  if (lines.length <= mostSeries) return [...lines];
  return Array.from({ length: mostSeries }, (_, i) => lines[Math.round((i * (lines.length - 1)) / (mostSeries - 1))]);
}

const evaluation = /^eval\/([^/]+)\/accuracy$/;

function plans(names: readonly string[]): { title: string; charts: ChartPlan[] }[] {
  const share = [0, 1];
  return [
    {
      title: 'Reward',
      charts: [
        {
          title: 'Reward',
          subtitle: 'Mean over all completions of a step',
          lines: (all) => {
            const parts = matching(/^rewards\/(.+)\/mean$/, all);
            // A single reward function is the reward itself.
            return [{ metric: 'reward', name: 'reward' }, ...(parts.length > 1 ? parts : [])];
          },
        },
        {
          title: 'Spread of the reward',
          subtitle: 'Standard deviation',
          lines: (all) => {
            const parts = matching(/^rewards\/(.+)\/std$/, all);
            return [{ metric: 'reward_std', name: 'reward' }, ...(parts.length > 1 ? parts : [])];
          },
        },
        {
          title: 'Share of groups without a gradient',
          subtitle: 'All rewards of the group are equal',
          lines: named({ metric: 'frac_reward_zero_std', name: 'share' }),
          yIncludes: share,
        },
        {
          title: 'Groups sampled again',
          subtitle: 'Groups of a step beyond promptsPerStep',
          note:
            'Dynamic sampling draws further rounds of prompts, up to maxRounds, while too few groups have rewards that ' +
            'differ: a group whose rewards are all equal has no gradient. The update takes groups with a gradient first.',
          lines: named({ metric: 'groups/resampled', name: 'groups' }),
          yIncludes: [0],
        },
      ],
    },
    {
      title: 'Accuracy',
      charts: [
        {
          title: 'Accuracy',
          subtitle: 'In training and in evaluation',
          lines: (all) => [{ metric: 'accuracy', name: 'training' }, ...matching(evaluation, all)],
          yIncludes: share,
        },
        {
          title: 'Accuracy by difficulty, in training',
          lines: (all) => byDifficulty('accuracy/', all),
          yIncludes: share,
          ordered: true,
        },
        ...matching(evaluation, names).map(({ name }) => ({
          title: `Accuracy by difficulty, ${name}`,
          lines: (all: readonly string[]) => byDifficulty(`eval/${name}/accuracy/`, all),
          yIncludes: share,
          ordered: true,
        })),
      ],
    },
    {
      title: 'Policy',
      charts: [
        {
          title: 'Entropy',
          subtitle: 'Nats a token',
          lines: named({ metric: 'entropy', name: 'entropy' }),
          yIncludes: [0],
        },
        {
          title: 'KL divergence from the reference policy',
          subtitle: 'Nats a token',
          lines: named({ metric: 'kl', name: 'KL' }),
          yIncludes: [0],
        },
        {
          title: 'Clipped tokens',
          subtitle: 'Share of all tokens; dashed: the extremes',
          lines: named(
            { metric: 'clip_ratio/region_mean', name: 'either', color: 0 },
            { metric: 'clip_ratio/low_mean', name: 'below', color: 1 },
            { metric: 'clip_ratio/high_mean', name: 'above', color: 2 },
            { metric: 'clip_ratio/low_min', name: 'below, least', color: 1, dashed: true },
            { metric: 'clip_ratio/high_max', name: 'above, most', color: 2, dashed: true },
          ),
          yIncludes: [0],
        },
        {
          title: 'Log-probs of sampler and policy',
          subtitle: 'Absolute difference, nats a token',
          lines: named(
            { metric: 'sampling/log_prob_difference_mean', name: 'mean' },
            { metric: 'sampling/log_prob_difference_max', name: 'largest' },
          ),
          yIncludes: [0],
        },
      ],
    },
    {
      title: 'HA-DW',
      charts: [
        {
          title: 'Difficulty anchor',
          subtitle: 'The belief about how often the policy is right, beside the reward',
          lines: named(
            { metric: 'hadw/anchor', name: 'anchor' },
            { metric: 'reward', name: 'reward', dashed: true, color: 6 },
          ),
        },
        {
          title: 'Weights of advantages',
          subtitle: 'Mean; band: smallest to largest',
          lines: named({ metric: 'hadw/weight_mean', name: 'weight', low: 'hadw/weight_min', high: 'hadw/weight_max' }),
        },
      ],
    },
    {
      title: 'Optimisation',
      charts: [
        { title: 'Loss', lines: named({ metric: 'loss', name: 'loss' }) },
        {
          title: 'Norm of the gradient',
          subtitle: 'Before clipping',
          lines: named({ metric: 'grad_norm', name: 'norm' }),
          yIncludes: [0],
        },
        { title: 'Learning rate', lines: named({ metric: 'learning_rate', name: 'rate' }), yIncludes: [0] },
      ],
    },
    {
      title: 'Completions',
      charts: [
        {
          title: 'Length',
          subtitle: 'Tokens; mean; band: shortest to longest',
          lines: named({
            metric: 'completions/mean_length',
            name: 'tokens',
            low: 'completions/min_length',
            high: 'completions/max_length',
          }),
          yIncludes: [0],
        },
        {
          title: 'Share of truncated completions',
          lines: named({ metric: 'completions/clipped_ratio', name: 'share' }),
          yIncludes: [0],
        },
      ],
    },
  ];
}

/** Metrics that are shown with another one, as ends of its band or in words. */
const shownElsewhere = new Set([
  'hadw/weight_min',
  'hadw/weight_max',
  'completions/min_length',
  'completions/max_length',
  'time',
]);

/** All charts, ending with those of metrics that are not planned for. */
export function metricSections(table: Table, span: Span): Section[] {
  const names = [...table.columns.keys()];
  const shown = new Set([...shownElsewhere, ...names.filter((name) => name.startsWith('health/'))]);
  const sections = plans(names).map(({ title, charts }) => {
    const section: Section = { title, charts: [], missing: [] };
    for (const plan of charts) {
      const lines = plan.lines(names);
      for (const { metric } of lines) shown.add(metric);
      const chart = drawPlan(plan, lines, table, span);
      if (isNew(chart)) section.charts.push(chart);
      else section.missing.push(plan.title);
    }
    return section;
  });
  const others = names.filter(
    (name) => !shown.has(name) && !/^rewards\/.+\/(mean|std)$/.test(name) && !isPartOfAccuracy(name),
  );
  const charts = others.slice(0, mostOthers).map((name) => seriesChart(name, table, span));
  sections.push({
    title: 'Other metrics',
    charts: charts.filter(({ series }) => series.length > 0),
    missing: others.slice(mostOthers),
  });
  return sections;

  /** A chart whose only curve is shown elsewhere, such as the reward next to a missing anchor, adds nothing. */
  function isNew({ series }: Chart): boolean {
    return series.some(({ dashed }) => !dashed);
  }
}

/** Maximum number of charts of unknown metrics. */
const mostOthers = 24;

/** A difficulty that was omitted from a chart with too many. */
function isPartOfAccuracy(name: string): boolean {
  const match = /(?:^|\/)accuracy\/([^/]+)$/.exec(name);
  return match !== null && Number.isFinite(Number(match[1]));
}

function seriesChart(name: string, table: Table, span: Span): Chart {
  return drawPlan({ title: name, lines: named() }, [{ metric: name, name }], table, span);
}

function drawPlan(plan: ChartPlan, lines: readonly Line[], table: Table, span: Span): Chart {
  const series = lines.flatMap(({ metric, name, low, high, dashed, color }): Series[] => {
    const points = curve(table, span, metric, low, high);
    return points.some(({ y }) => Number.isFinite(y)) ? [{ name, points, dashed, color }] : [];
  });
  const { title, subtitle, note, yIncludes, ordered } = plan;
  return {
    ...stepAxis(span),
    title,
    subtitle,
    note,
    yIncludes,
    ordered,
    series: ordered ? series : series.slice(0, 12),
  };
}

function stepAxis({ first, last }: Span): Pick<Chart, 'xLabel' | 'xRange' | 'xInteger'> {
  return { xLabel: 'step', xRange: [first, last], xInteger: true };
}

/** The parts of a step's time in chronological order; others follow. */
const timeNames: [metric: string, name: string][] = [
  ['time/sampling', 'sampling'],
  ['time/rewards', 'rewards'],
  ['time/advantages', 'advantages'],
  ['time/forward_backward', 'forward and backward'],
  ['time/loss', 'loss'],
  ['time/optimizer', 'optimiser'],
];
const otherTime = 'everything else';

export interface TimeShare {
  name: string;
  /** Seconds over the whole run. */
  seconds: number;
  /** Share of the time of all steps, in [0, 1]. */
  share: number;
}

/** How the time of steps was spent. */
export function timeSection(table: Table, span: Span): Section & { shares: TimeShare[] } {
  const parts = timeParts(table);
  const curves = stack(parts.map(([, column]) => plainCurve(column, table, span)));
  const sums = parts.map(([, column]) => sum(column));
  const all = sums.reduce((a, b) => a + b, 0);
  const time: Chart = {
    ...stepAxis(span),
    title: 'Time of a step',
    subtitle: 'Seconds',
    yIncludes: [0],
    series: all > 0 ? parts.map(([name], i) => ({ name, kind: 'area', points: curves[i] })) : [],
  };
  const speedPlan = { title: 'Tokens a second', lines: named(), yIncludes: [0] };
  const speed = drawPlan(speedPlan, [{ metric: 'tokens_per_second', name: 'tokens a second' }], table, span);
  const isEmpty = ({ series }: Chart) => series.length === 0;
  return {
    title: 'Time',
    charts: [time, speed].filter((chart) => !isEmpty(chart)),
    missing: [time, speed].filter(isEmpty).map(({ title }) => title),
    shares: all > 0 ? parts.map(([name], i) => ({ name, seconds: sums[i], share: sums[i] / all })) : [],
  };
}

/** One value per table row. */
type Column = readonly (number | undefined)[];

/**
 * The recorded parts of a step's time, and the remainder. In the file the loss is included in forward and backward; here it is
 * separate.
 */
function timeParts({ steps, columns }: Table): [name: string, column: Column][] {
  const isKnown = (metric: string) => metric === 'time/step' || timeNames.some(([known]) => known === metric);
  const others = [...columns.keys()].filter((metric) => metric.startsWith('time/') && !isKnown(metric));
  const at = (metric: string, row: number) => finite(columns.get(metric)?.[row]) ?? 0;
  const parts = [...timeNames, ...others.map((metric) => [metric, metric.slice(5)] as const)]
    .filter(([metric]) => columns.has(metric))
    .map(([metric, name]): [string, number[]] => {
      const within = metric === 'time/forward_backward' ? 'time/loss' : '';
      return [name, steps.map((_, row) => Math.max(0, at(metric, row) - at(within, row)))];
    });
  if (!columns.has('time/step')) return parts;
  const rest = steps.map((_, row) => {
    const known = parts.reduce((total, [, column]) => total + column[row], 0);
    return Math.max(0, at('time/step', row) - known);
  });
  return [...parts, [otherTime, rest]];
}

/** A curve without a band. */
function plainCurve(column: Column, table: Table, span: Span): Point[] {
  const points = curve({ ...table, columns: new Map([['', [...column]]]) }, span, '');
  return points.map(({ x, y }) => ({ x, y }));
}

function finite(value: number | undefined): number | undefined {
  return value !== undefined && Number.isFinite(value) ? value : undefined;
}

function sum(values: Column): number {
  return values.reduce((total: number, value) => total + (finite(value) ?? 0), 0);
}

/** Summary numbers of a metric. */
export interface Summary {
  name: string;
  first: number;
  last: number;
  lowest: { value: number; step: number };
  highest: { value: number; step: number };
}

/** Undefined for a metric without a finite value. */
export function summarize(table: Table, name: string): Summary | undefined {
  let summary: Summary | undefined;
  const values = table.columns.get(name) ?? [];
  for (let row = 0; row < values.length; row++) {
    const value = finite(values[row]);
    if (value === undefined) continue;
    const here = { value, step: table.steps[row] };
    summary ??= { name, first: value, last: value, lowest: here, highest: here };
    summary.last = value;
    if (value < summary.lowest.value) summary.lowest = here;
    if (value > summary.highest.value) summary.highest = here;
  }
  return summary;
}

/** "1 h 2 min", "3 min 4 s", "5.6 s". */
export function duration(seconds: number): string {
  if (seconds < 60) return `${format(Math.round(seconds * 10) / 10)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
