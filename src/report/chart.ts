// Charts as SVG text: lines with bands, stacked areas, points with error bars. They need no script and no font, follow the
// reader's dark or light setting, and describe themselves in words for screen readers.

import { markup } from './text.js';

export interface Point {
  x: number;
  /** NaN, or anything else that is not finite, breaks a line. */
  y: number;
  /** The ends of a band, an error bar or an area at this x. */
  low?: number;
  high?: number;
}

export interface Series {
  name: string;
  /** In ascending order of x. */
  points: readonly Point[];
  /**
   * `line` (default): a line through y, over a band from low to high if given. `points`: dots at y with error bars from low to
   * high. `area`: filled from low to high, for stacks; y is then the part's own value.
   */
  kind?: 'line' | 'points' | 'area';
  dashed?: boolean;
  /** Which colour of the palette. Default: the place in the list. */
  color?: number;
  /** Omitted from the legend, because another series of the same colour represents it. Default false. */
  unlisted?: boolean;
}

export interface Chart {
  title: string;
  /** A line below the title, for example what a band is. */
  subtitle?: string;
  /** A sentence below the chart, for what the title does not say. */
  note?: string;
  /** What the x axis counts; its unit. */
  xLabel: string;
  series: readonly Series[];
  /** The ends of the x axis. Default: those of the points. */
  xRange?: readonly [number, number];
  /** Values that the y axis must contain. */
  yIncludes?: readonly number[];
  /** x is a count: no ticks between integers. Default false. */
  xInteger?: boolean;
  /** The series are steps of a scale, from low to high, shown by a colour gradient. Default false. */
  ordered?: boolean;
}

/** Sizes of the palettes: adjacent colours are distinguishable for colour-blind readers too. */
const paletteSize = 8;
const scaleSize = 8;

const palettes = {
  light: {
    series: ['#0067a5', '#c2410c', '#047857', '#9d3c91', '#a16207', '#be123c', '#57534e', '#0e7490'],
    scale: ['#6366d8', '#4a4fc0', '#6f3fb8', '#932fa6', '#b0308c', '#c83a6c', '#d6504a', '#d97021'],
    text: '#1c1917',
    muted: '#6b655f',
    grid: '#e7e5e4',
  },
  dark: {
    series: ['#5cb3f0', '#fb923c', '#34d399', '#e39ad8', '#facc15', '#fb7185', '#b8b2ac', '#5fd3e6'],
    scale: ['#8ea2ff', '#a593fb', '#bf87f2', '#d77fe0', '#ea7cc4', '#f582a0', '#f9907c', '#f7a660'],
    text: '#f5f5f4',
    muted: '#a8a29e',
    grid: '#3a3633',
  },
} as const;

/** The style sheet that charts need, once per page. */
export const chartStyle = `
.chart text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
.chart .title { font-size: 14px; font-weight: 600; }
.chart .line { fill: none; stroke: currentColor; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
.chart .dashed { stroke-dasharray: 5 4; }
.chart .band { fill: currentColor; fill-opacity: 0.16; stroke: none; }
.chart .faint { fill-opacity: 0.06; }
.chart .area { fill: currentColor; fill-opacity: 0.85; stroke: none; }
.chart .dot { fill: currentColor; stroke: none; }
.chart .bar { fill: none; stroke: currentColor; stroke-width: 1.2; }
.chart .grid { stroke-width: 1; }
${palette('light')}
@media (prefers-color-scheme: dark) {
${palette('dark')}
}`;

function palette(mode: keyof typeof palettes): string {
  const { series, scale, text, muted, grid } = palettes[mode];
  return [
    `.chart text { fill: ${text}; }`,
    `.chart .muted { fill: ${muted}; }`,
    `.chart .grid { stroke: ${grid}; }`,
    ...series.map((color, i) => `.chart .c${i} { color: ${color}; }`),
    ...scale.map((color, i) => `.chart .o${i} { color: ${color}; }`),
  ].join('\n');
}

/**
 * Width and height of a chart, in its own units, in which texts are 12 high; rows of a legend and lines of text beyond the
 * first add to the height.
 */
export interface ChartSize {
  width: number;
  height: number;
  /** Approximate number of intervals on the x axis. */
  xTicks: number;
  /** Assumed width of a character in the legend: text cannot be measured before it is drawn. */
  character: number;
}

/** For a file that is shown at full page width. */
export const wideChart: ChartSize = { width: 480, height: 256, xTicks: 5, character: 6.4 };
/** For a page that must also be read on a phone, 390 pixels wide, where a chart is slightly narrower than its units. */
export const narrowChart: ChartSize = { width: 350, height: 216, xTicks: 4, character: 7.2 };

const titleRow = 18;
const subtitleRow = 16;
const legendRow = 18;
const margin = { left: 50, right: 14, bottom: 24 };

/** A chart as an SVG element. `id` must be unique on the page: letters, digits and '-'. */
export function drawChart(chart: Chart, id: string, size = wideChart): string {
  const { width, height: least, xTicks } = size;
  const legend = chart.series.length > 1 ? layLegend(chart, size) : { rows: 0, items: [] };
  // A bold title's characters are at most 7.6 wide on average, others 6.2.
  const title = breakLines(chart.title, width / 7.6);
  const subtitle = chart.subtitle ? breakLines(chart.subtitle, width / 6.2) : [];
  const subtitleTop = 33 + titleRow * (title.length - 1);
  const legendTop = subtitleTop - 9 + subtitleRow * subtitle.length;
  const more = legendRow * Math.max(0, legend.rows - 1) + legendTop - (24 + (chart.subtitle ? subtitleRow : 0));
  const height = least + more;
  const top = legendTop + legendRow * legend.rows + 6;
  const plot = { left: margin.left, right: width - margin.right, top, bottom: height - margin.bottom };
  const xs = axis(chart.xRange ?? extent(chart.series, ({ x }) => [x]), xTicks, chart.xInteger);
  const ys = axis(extent(chart.series, drawnValues, chart.yIncludes), 4);
  // The x axis ends where the data end; the y axis ends on ticks.
  const x = scale(xs.range, plot.left, plot.right);
  const y = scale(ys.ticked, plot.bottom, plot.top);
  return [
    `<svg class="chart" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="${id}-title ${id}-text"`,
    ` data-plot="${[plot.left, plot.top, plot.right, plot.bottom].join(' ')}" data-x="${xs.range.join(' ')}" data-label="${markup(chart.xLabel)}">`,
    `<title id="${id}-title">${markup(chart.title)}</title><desc id="${id}-text">${markup(inWords(chart))}</desc>`,
    ...title.map((line, i) => `<text class="title" x="2" y="${15 + titleRow * i}">${markup(line)}</text>`),
    ...subtitle.map(
      (line, i) => `<text class="muted" x="2" y="${subtitleTop + subtitleRow * i}">${markup(line)}</text>`,
    ),
    ...legend.items.map((item) => drawLegendItem(item, legendTop)),
    ...ys.ticks.map(
      (value) =>
        `<path class="grid" d="M${plot.left} ${fixed(y(value))}H${plot.right}"/>` +
        `<text class="muted" x="${plot.left - 7}" y="${fixed(y(value) + 4)}" text-anchor="end">${format(value)}</text>`,
    ),
    ...xs.ticks
      .filter((value) => value >= xs.range[0] && value <= xs.range[1])
      .map(
        (value) =>
          `<text class="muted" x="${fixed(x(value))}" y="${plot.bottom + 17}" text-anchor="middle">${format(value)}</text>`,
      ),
    `<text class="muted" x="2" y="${plot.bottom + 17}">${markup(chart.xLabel)}</text>`,
    ...chart.series.map((series, i) =>
      drawSeries(series, colorClass(chart, i), chart.series.length > 3 ? 'band faint' : 'band', x, y),
    ),
    '</svg>',
  ].join('');
}

/** Text wrapped between words at a number of characters; a longer word gets its own line. */
function breakLines(text: string, most: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.length - 1;
    if (last >= 0 && lines[last].length + 1 + word.length <= most) lines[last] += ` ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** A chart as a standalone SVG file. */
export function chartFile(chart: Chart): string {
  return drawChart(chart, 'chart')
    .replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" ')
    .replace('</desc>', `</desc><style>${chartStyle}</style>`);
}

/** `bandClass`: the bands of many series would cover each other. */
function drawSeries(series: Series, color: string, bandClass: string, x: Scale, y: Scale): string {
  const { kind = 'line', points, dashed } = series;
  const at = ({ x: px }: Point, value: number) => `${fixed(x(px))} ${fixed(y(value))}`;
  const hasBand = (p: Point) => isDrawn(p.low) && isDrawn(p.high);
  const band = (className: string) =>
    runs(points, hasBand)
      .filter((run) => run.length > 1)
      .map((run) => {
        const there = run.map((p) => at(p, p.high!)).join('L');
        const back = [...run].reverse().map((p) => at(p, p.low!));
        return `<path class="${className}" d="M${there}L${back.join('L')}Z"/>`;
      });
  const bars = (list: readonly Point[]) =>
    list.filter(hasBand).map((p) => `<path class="bar" d="M${at(p, p.low!)}V${fixed(y(p.high!))}"/>`);
  const dots = (list: readonly Point[], radius = 2.6) =>
    list.map((p) => `<circle class="dot" cx="${fixed(x(p.x))}" cy="${fixed(y(p.y))}" r="${radius}"/>`);
  const drawn = points.filter((p) => isDrawn(p.y));

  const parts: string[] = [];
  if (kind === 'area') {
    // A single step has no width to fill.
    parts.push(...band('area'), ...(points.length === 1 ? bars(points) : []));
  } else if (kind === 'points') {
    parts.push(...bars(points), ...dots(drawn));
  } else {
    const lines = runs(points, (p) => isDrawn(p.y));
    parts.push(...band(bandClass));
    for (const run of lines) {
      if (run.length === 1) parts.push(...bars(run), ...dots(run));
      else parts.push(`<path class="line${dashed ? ' dashed' : ''}" d="M${run.map((p) => at(p, p.y)).join('L')}"/>`);
    }
    // With few points, dots show which values were measured and which lines only connect them.
    if (drawn.length <= 40) parts.push(...dots(drawn, 2));
  }
  return `<g class="${color}">${parts.join('')}</g>`;
}

/** The longest runs of consecutive points that can be drawn. */
function runs(points: readonly Point[], isPart: (point: Point) => boolean): Point[][] {
  const all: Point[][] = [];
  let current: Point[] = [];
  for (const point of points) {
    if (isPart(point)) current.push(point);
    else if (current.length > 0) {
      all.push(current);
      current = [];
    }
  }
  return current.length > 0 ? [...all, current] : all;
}

interface LegendItem {
  name: string;
  color: string;
  kind: Series['kind'];
  dashed: boolean;
  x: number;
  row: number;
}

function layLegend(chart: Chart, { width, character }: ChartSize): { rows: number; items: LegendItem[] } {
  let [x, row] = [2, 0];
  const items = chart.series.flatMap(({ name, kind, dashed = false, unlisted }, i): LegendItem[] => {
    if (unlisted) return [];
    const label = name.length > 40 ? `${name.slice(0, 39)}…` : name;
    const space = 22 + character * label.length + 12;
    if (x > 2 && x + space > width) [x, row] = [2, row + 1];
    const item = { name: label, color: colorClass(chart, i), kind, dashed, x, row };
    x += space;
    return [item];
  });
  return { rows: items.length > 0 ? row + 1 : 0, items };
}

function drawLegendItem({ name, color, kind, dashed, x, row }: LegendItem, top: number): string {
  const y = top + legendRow * row + 11;
  const sample =
    kind === 'area'
      ? `<path class="area" d="M${fixed(x)} ${y - 9}H${fixed(x + 16)}V${y + 1}H${fixed(x)}Z"/>`
      : kind === 'points'
        ? `<circle class="dot" cx="${fixed(x + 8)}" cy="${y - 4}" r="2.6"/>`
        : `<path class="line${dashed ? ' dashed' : ''}" d="M${fixed(x)} ${y - 4}H${fixed(x + 16)}"/>`;
  return `<g class="${color}">${sample}</g><text x="${fixed(x + 21)}" y="${y}">${markup(name)}</text>`;
}

function colorClass({ series, ordered }: Chart, i: number): string {
  if (!ordered) return `c${(series[i].color ?? i) % paletteSize}`;
  // A few steps are spread over the whole scale.
  return `o${series.length === 1 ? 0 : Math.round((i * (scaleSize - 1)) / (series.length - 1))}`;
}

type Scale = (value: number) => number;

function scale([from, to]: readonly [number, number], start: number, end: number): Scale {
  return (value) => start + ((value - from) / (to - from)) * (end - start);
}

/** Whether a value can be drawn at all: differences of larger ones could overflow. */
function isDrawn(value: number | undefined): value is number {
  return value !== undefined && Math.abs(value) < 1e300;
}

function drawnValues({ y, low = y, high = y }: Point): number[] {
  return [y, low, high];
}

function extent(
  all: readonly Series[],
  valuesOf: (point: Point) => readonly number[],
  includes: readonly number[] = [],
): [number, number] {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const add = (value: number) => {
    if (!isDrawn(value)) return;
    min = Math.min(min, value);
    max = Math.max(max, value);
  };
  includes.forEach(add);
  for (const { points } of all) for (const point of points) valuesOf(point).forEach(add);
  return min <= max ? [min, max] : [0, 1];
}

interface Axis {
  /** The data's range, widened if it is empty. */
  range: [number, number];
  /** The range from the first tick to the last. */
  ticked: [number, number];
  ticks: number[];
}

/** Smaller numbers count as 0. */
const smallest = 1e-290;

/** About `count` intervals of 1, 2 or 5 times a power of ten that cover a range. */
function axis([min, max]: readonly [number, number], count: number, isInteger = false): Axis {
  const size = Math.max(Math.abs(min), Math.abs(max));
  // Ranges too narrow to divide, relative to their values, are widened.
  const isFlat = max - min <= Math.max(1e-9 * size, smallest);
  const pad = isInteger || size <= smallest ? 1 : 0.1 * size;
  const range: [number, number] = isFlat ? [min - pad, max + pad] : [min, max];
  const rough = (range[1] - range[0]) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const nice = [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.75)! * power;
  const step = isInteger ? Math.max(1, nice) : nice;
  const [first, last] = [Math.floor(range[0] / step + 1e-9), Math.ceil(range[1] / step - 1e-9)];
  // The product of a count and a step such as 0.1 has rounding in its last digits.
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
  return { range, ticked: [ticks[0], ticks[ticks.length - 1]], ticks };
}

/** A number for people, with at most four digits: 12k, 0.25, 3e-5. */
export function format(value: number): string {
  const size = Math.abs(value);
  if (value === 0) return '0';
  if (size >= 1e6 || size < 1e-3)
    return value
      .toExponential(2)
      .replace(/\.?0+e/, 'e')
      .replace('e+', 'e');
  if (size >= 1e4) return `${Number((value / 1000).toPrecision(4))}k`;
  return String(Number(value.toPrecision(4)));
}

/** A chart described for screen readers: where each series begins and ends, and its range. */
function inWords({ xLabel, series }: Chart): string {
  const sentences = series.map(({ name, points }) => {
    const drawn = points.filter(({ y }) => isDrawn(y));
    if (drawn.length === 0) return `${name}: no values.`;
    const [first, last] = [drawn[0], drawn[drawn.length - 1]];
    const [min, max] = extent([{ name, points: drawn }], ({ y }) => [y]);
    return `${name}: from ${format(first.y)} at ${xLabel} ${format(first.x)} to ${format(last.y)} at ${format(last.x)}, between ${format(min)} and ${format(max)}.`;
  });
  return sentences.join(' ');
}

function fixed(value: number): string {
  return String(Math.round(value * 10) / 10);
}
