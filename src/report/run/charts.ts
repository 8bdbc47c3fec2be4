// The charts of a report, by section: those that the table of metrics states, drawn from what a run recorded.

import {
  type ChartName,
  charts,
  type FoundMetric,
  fillIn,
  findMetric,
  type Metric,
  type MetricChart,
  type MetricLine,
  type MetricName,
  metrics,
} from '../../base/metrics.js';
import { type Chart, format, type Point, type Series } from '../chart.js';
import { curve, type Span, stack } from './curve.js';
import type { Table } from './read.js';

export interface Section {
  title: string;
  charts: Chart[];
  /** Charts of this section for which the run recorded nothing. */
  missing: string[];
}

/** A line of a chart whose placeholders are filled in. */
interface Line extends Omit<MetricLine, 'chart'> {
  metric: string;
}

type ChartPlan = Omit<MetricChart, 'section'>;

/** Maximum number of series that a chart by difficulty can show distinctly. */
const mostSeries = 8;

/** An evenly spaced selection if there are too many. */
function thin<T>(lines: readonly T[]): T[] {
  if (lines.length <= mostSeries) return [...lines];
  return Array.from({ length: mostSeries }, (_, i) => lines[Math.round((i * (lines.length - 1)) / (mostSeries - 1))]);
}

/** The lines of a chart in order: those of the table, by level if it is ordered, dashed ones last. */
function linesOf(chart: ChartName, recorded: readonly FoundColumn[]): Line[] {
  const lines = tableOrder.flatMap((name) => {
    const family = recorded.filter((column) => column.name === name);
    return linesIn(metrics[name], chart)
      .filter(({ several }) => !several || family.length > 1)
      .flatMap((line) =>
        family.map(({ column, values }) => ({ ...line, metric: column, name: fillIn(line.name, values) })),
      );
  });
  const { ordered }: MetricChart = charts[chart];
  if (ordered) return thin(lines.sort((a, b) => Number(a.name) - Number(b.name)));
  return [...lines.filter(({ dashed }) => !dashed), ...lines.filter(({ dashed }) => dashed)];
}

const tableOrder = Object.keys(metrics) as MetricName[];

function linesIn({ lines = [] }: Metric, chart: ChartName): MetricLine[] {
  return lines.filter((line) => line.chart === chart);
}

/** A column that the table of metrics knows. */
interface FoundColumn extends FoundMetric {
  column: string;
}

function recordedMetrics({ columns }: Table): FoundColumn[] {
  return [...columns.keys()].flatMap((column) => {
    const found = findMetric(column);
    return found ? [{ ...found, column }] : [];
  });
}

/** Every chart that the table of metrics states, in order: one for each evaluation where the title names it. */
function plans(recorded: readonly FoundColumn[]): { section: string; plan: ChartPlan; lines: Line[] }[] {
  const evaluations = new Set(recorded.flatMap(({ values }) => values.evaluation ?? []));
  return (Object.keys(charts) as ChartName[]).flatMap((name) => {
    const { section, ...plan }: MetricChart = charts[name];
    if (!plan.title.includes('<evaluation>')) return [{ section, plan, lines: linesOf(name, recorded) }];
    return [...evaluations].map((evaluation) => ({
      section,
      plan: { ...plan, title: fillIn(plan.title, { evaluation }) },
      lines: linesOf(
        name,
        recorded.filter(({ values }) => values.evaluation === evaluation),
      ),
    }));
  });
}

/** The metrics at the ends of bands. */
const bandEnds = new Set(
  tableOrder.flatMap((name) => ((metrics[name] as Metric).lines ?? []).flatMap(({ low, high }) => [low, high])),
);

/** Whether a chart of the table shows it, or could: one of many difficulties is left out, and so is a single reward. */
function isShown({ name, metric }: FoundMetric): boolean {
  return metric.lines !== undefined || metric.shownIn !== undefined || bandEnds.has(name);
}

/** All charts of metrics.jsonl, ending with those of metrics that the table has no chart for. */
export function metricSections(table: Table, span: Span): Section[] {
  const names = [...table.columns.keys()];
  const recorded = recordedMetrics(table);
  const sections = new Map<string, Section>();
  for (const { section: title, plan, lines } of plans(recorded)) {
    if (title === timeTitle) continue;
    const section = sections.get(title) ?? { title, charts: [], missing: [] };
    sections.set(title, section);
    const chart = drawPlan(plan, lines, table, span);
    if (isNew(chart)) section.charts.push(chart);
    else section.missing.push(plan.title);
  }
  const shown = new Set(recorded.filter(isShown).map(({ column }) => column));
  const others = names.filter((name) => !shown.has(name));
  const drawn = others.slice(0, mostOthers).map((name) => seriesChart(name, table, span));
  const other = {
    title: 'Other metrics',
    charts: drawn.filter(({ series }) => series.length > 0),
    missing: others.slice(mostOthers),
  };
  return [...sections.values(), other];

  /** A chart whose only curve is shown elsewhere, such as the reward next to a missing anchor, adds nothing. */
  function isNew({ series }: Chart): boolean {
    return series.some(({ dashed }) => !dashed);
  }
}

/** Maximum number of charts of unknown metrics. */
const mostOthers = 24;

function seriesChart(name: string, table: Table, span: Span): Chart {
  return drawPlan({ title: name }, [{ metric: name, name }], table, span);
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

/** The section of timing.jsonl. */
const timeTitle = charts.time.section;
const wholeStep: MetricName = 'time/step';
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
  const { section: title, ...plan } = charts.time;
  const time: Chart = {
    ...stepAxis(span),
    ...plan,
    series: all > 0 ? parts.map(([name], i) => ({ name, kind: 'area', points: curves[i] })) : [],
  };
  const speed = drawPlan(charts.speed, linesOf('speed', recordedMetrics(table)), table, span);
  const isEmpty = ({ series }: Chart) => series.length === 0;
  return {
    title,
    charts: [time, speed].filter((chart) => !isEmpty(chart)),
    missing: [time, speed].filter(isEmpty).map(({ title }) => title),
    shares: all > 0 ? parts.map(([name], i) => ({ name, seconds: sums[i], share: sums[i] / all })) : [],
  };
}

/** One value per table row. */
type Column = readonly (number | undefined)[];

/** The recorded parts of a step's time, and the remainder. A part that lies within another one is taken out of it. */
function timeParts(table: Table): [name: string, column: Column][] {
  const { steps, columns } = table;
  const at = (metric: string, row: number) => finite(columns.get(metric)?.[row]) ?? 0;
  const known = linesOf('time', recordedMetrics(table)).map(({ metric, name }) => [metric, name] as const);
  const others = [...columns.keys()]
    .filter((metric) => metric.startsWith('time/') && !findMetric(metric))
    .map((metric) => [metric, metric.slice('time/'.length)] as const);
  const parts = [...known, ...others].map(([metric, name]): [string, number[]] => {
    const inner = known.filter(([other]) => findMetric(other)!.metric.within === metric);
    const own = (row: number) => inner.reduce((rest, [other]) => rest - at(other, row), at(metric, row));
    return [name, steps.map((_, row) => Math.max(0, own(row)))];
  });
  if (!columns.has(wholeStep)) return parts;
  const rest = steps.map((_, row) => {
    const explained = parts.reduce((total, [, column]) => total + column[row], 0);
    return Math.max(0, at(wholeStep, row) - explained);
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
