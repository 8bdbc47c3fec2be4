// A metric as the points of a chart: every step of a short run, averages over intervals of a long one.

import type { Point } from '../chart.js';
import type { Table } from './read.js';

/** The steps that all charts of a report show. */
export interface Span {
  first: number;
  last: number;
  /** Steps per point; 1 shows every step. */
  stepsPerPoint: number;
}

/** Runs up to this length are shown step by step, longer ones in about half as many intervals. */
const maxSteps = 400;

export function spanOf(tables: readonly Table[]): Span {
  const ends = tables.filter(({ steps }) => steps.length > 0).map(({ steps }) => [steps[0], steps[steps.length - 1]]);
  const first = Math.min(...ends.map(([from]) => from));
  const last = Math.max(...ends.map(([, to]) => to));
  if (ends.length === 0) return { first: 0, last: 0, stepsPerPoint: 1 };
  const length = last - first + 1;
  return { first, last, stepsPerPoint: length <= maxSteps ? 1 : Math.ceil(length / (maxSteps / 2)) };
}

/**
 * The points of a metric, with two other metrics as the ends of its band if named. An interval of several steps becomes one
 * point: its middle, the mean, and a band from the smallest to the largest value. Steps without a value are skipped; an interval
 * that has only nulls becomes a gap.
 */
export function curve(table: Table, span: Span, name: string, low = name, high = name): Point[] {
  const [values, lows, highs] = [name, low, high].map((metric) => table.columns.get(metric) ?? []);
  const hasBand = span.stepsPerPoint > 1 || low !== name || high !== name;
  const points: Point[] = [];
  let stretch: Stretch | undefined;
  const finish = () => {
    if (stretch) points.push(pointOf(stretch, hasBand));
    stretch = undefined;
  };
  for (let row = 0; row < values.length; row++) {
    const value = values[row];
    if (value === undefined) continue;
    const place = Math.floor((table.steps[row] - span.first) / span.stepsPerPoint);
    if (place !== stretch?.place) {
      finish();
      stretch = { place, steps: 0, rows: 0, sum: 0, count: 0, low: Infinity, high: -Infinity };
    }
    add(stretch!, table.steps[row], value, lows[row], highs[row]);
  }
  finish();
  return points;
}

interface Stretch {
  place: number;
  /** The sum of the steps, and the number of rows. */
  steps: number;
  rows: number;
  /** The sum of the values, and their number. */
  sum: number;
  count: number;
  low: number;
  high: number;
}

function add(stretch: Stretch, step: number, value: number, low = value, high = value): void {
  stretch.steps += step;
  stretch.rows++;
  if (!Number.isFinite(value)) return;
  stretch.sum += value;
  stretch.count++;
  // NaN, for null, is ignored.
  stretch.low = Math.min(stretch.low, value, Number.isNaN(low) ? value : low);
  stretch.high = Math.max(stretch.high, value, Number.isNaN(high) ? value : high);
}

function pointOf({ steps, rows, sum, count, low, high }: Stretch, hasBand: boolean): Point {
  const x = Math.round(steps / rows);
  if (count === 0) return { x, y: Number.NaN };
  return hasBand ? { x, y: sum / count, low, high } : { x, y: sum };
}

/** Stacked curves: each point's y is its own value, low and high are its position in the stack. */
export function stack(curves: readonly (readonly Point[])[]): Point[][] {
  const tops = new Map<number, number>();
  for (const points of curves) for (const { x } of points) tops.set(x, 0);
  const xs = [...tops.keys()].sort((a, b) => a - b);
  return curves.map((points) => {
    const values = new Map(points.map(({ x, y }) => [x, Number.isFinite(y) ? y : 0]));
    return xs.map((x) => {
      const y = values.get(x) ?? 0;
      const low = tops.get(x)!;
      tops.set(x, low + y);
      return { x, y, low, high: low + y };
    });
  });
}
