// Charts: what is drawn where, and that no data can break the drawing.

import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { type Chart, chartFile, drawChart, format, type Point, type Series } from '../../src/report/chart.js';
import { elements } from '../support/markup.js';

const points = (...ys: number[]): Point[] => ys.map((y, i) => ({ x: i + 1, y }));
const chart = (series: Series[], rest: Partial<Chart> = {}): Chart => ({ title: 'T', xLabel: 'step', series, ...rest });
const draw = (series: Series[], rest?: Partial<Chart>) => elements(drawChart(chart(series, rest), 'c'));
const lines = (series: Series[], rest?: Partial<Chart>) => ofClass(draw(series, rest), 'line');

function ofClass(all: ReturnType<typeof elements>, name: string) {
  return all.filter(({ attributes }) => (attributes.class ?? '').split(' ').includes(name));
}

/** The numbers of a path or element, in order. */
function coordinates(markup: string): number[] {
  return [...markup.matchAll(/(?: d| x| y| cx| cy)="([^"]*)"/g)].flatMap(([, text]) =>
    text
      .split(/[^\d.e+-]+/)
      .filter((part) => part !== '')
      .map(Number),
  );
}

function ticks(series: Series[], rest?: Partial<Chart>): { x: string[]; y: string[] } {
  const texts = draw(series, rest).filter(({ name }) => name === 'text');
  return {
    x: texts.filter(({ attributes }) => attributes['text-anchor'] === 'middle').map(({ text }) => text),
    y: texts.filter(({ attributes }) => attributes['text-anchor'] === 'end').map(({ text }) => text),
  };
}

test('a line goes through its points from the left end of the axis to the right', () => {
  const [line] = lines([{ name: 'a', points: points(0, 1, 0.5) }]);
  const [x0, y0, x1, y1, x2, y2] = line.attributes.d.split(/[ML ]/).filter(Boolean).map(Number);
  const [svg] = draw([{ name: 'a', points: points(0, 1, 0.5) }]);
  const [left, top, right, bottom] = svg.attributes['data-plot'].split(' ').map(Number);
  assert.deepEqual([x0, x1, x2], [left, (left + right) / 2, right]);
  assert.deepEqual([y0, y1, y2], [bottom, top, (top + bottom) / 2]);
  assert.equal(svg.attributes['data-x'], '1 3');
});

test('values that are not finite interrupt a line, and an isolated value is a dot', () => {
  const series = [{ name: 'a', points: points(0, 1, Number.NaN, 2, Infinity, 1e301, 3, 4) }];
  assert.equal(lines(series).length, 2);
  const many = Array.from({ length: 50 }, (_, i) => (i % 2 === 0 ? i : Number.NaN));
  assert.equal(lines([{ name: 'a', points: points(...many) }]).length, 0);
  assert.equal(ofClass(draw([{ name: 'a', points: points(...many) }]), 'dot').length, 25 + 25);
});

test('few points are marked, many are not', () => {
  const count = (n: number) => ofClass(draw([{ name: 'a', points: points(...Array(n).keys()) }]), 'dot').length;
  assert.deepEqual([count(40), count(41)], [40, 0]);
});

test('bands, areas and error bars reach from low to high', () => {
  const withEnds = points(1, 2, 3).map((p) => ({ ...p, low: p.y - 1, high: p.y + 1 }));
  const line = draw([{ name: 'a', points: withEnds }]);
  assert.equal(ofClass(line, 'band').length, 1);
  assert.deepEqual(ticks([{ name: 'a', points: withEnds }]).y, ['0', '1', '2', '3', '4']);
  const area = draw([{ name: 'a', points: withEnds, kind: 'area' }]);
  assert.deepEqual([ofClass(area, 'area').length, ofClass(area, 'line').length], [1, 0]);
  const dots = draw([{ name: 'a', points: withEnds, kind: 'points' }]);
  assert.deepEqual([ofClass(dots, 'bar').length, ofClass(dots, 'dot').length], [3, 3]);
});

test('axes have round ticks that cover the data', () => {
  assert.deepEqual(ticks([{ name: 'a', points: points(0.02, 0.98) }]).y, ['0', '0.2', '0.4', '0.6', '0.8', '1']);
  assert.deepEqual(ticks([{ name: 'a', points: points(-3, 7) }]).y, ['-4', '-2', '0', '2', '4', '6', '8']);
  assert.deepEqual(ticks([{ name: 'a', points: points(1e-6, 3.5e-6) }]).y, [
    '1e-6',
    '1.5e-6',
    '2e-6',
    '2.5e-6',
    '3e-6',
    '3.5e-6',
  ]);
  assert.deepEqual(ticks([{ name: 'a', points: points(0.2) }], { yIncludes: [0, 1] }).y.slice(-1), ['1']);
  const xs = (last: number) =>
    ticks(
      [
        {
          name: 'a',
          points: [
            { x: 1, y: 1 },
            { x: last, y: 2 },
          ],
        },
      ],
      { xInteger: true },
    ).x;
  assert.deepEqual(xs(3), ['1', '2', '3']);
  assert.deepEqual(xs(150), ['50', '100', '150']);
  assert.deepEqual(xs(100000), ['20k', '40k', '60k', '80k', '100k']);
});

test('one point, equal values, no values and no series have axes too', () => {
  for (const series of [
    [{ name: 'a', points: points(5) }],
    [{ name: 'a', points: points(5, 5, 5) }],
    [{ name: 'a', points: points(0) }],
    [{ name: 'a', points: points(Number.NaN) }],
    [{ name: 'a', points: [] }],
    [],
  ]) {
    const { x, y } = ticks(series, { xInteger: true });
    assert.ok(x.length >= 2 && y.length >= 2, JSON.stringify({ series, x, y }));
    assert.equal(new Set(y).size, y.length);
  }
});

test('a series has one colour, in the legend and in the plot; a scale runs from its first colour to its last', () => {
  const colors = (n: number, ordered: boolean) => {
    const series = Array.from({ length: n }, (_, i) => ({ name: `s${i}`, points: points(i, i + 1) }));
    return draw(series, { ordered })
      .filter(({ name }) => name === 'g')
      .map(({ attributes }) => attributes.class);
  };
  assert.deepEqual(colors(1, false), ['c0']);
  assert.deepEqual(colors(3, false), ['c0', 'c1', 'c2', 'c0', 'c1', 'c2']);
  assert.deepEqual(colors(3, true).slice(3), ['o0', 'o4', 'o7']);
});

test('an unlisted series is drawn, but is not in the legend', () => {
  const series: Series[] = ['a', 'b', 'c'].map((name, i) => ({
    name,
    points: points(i, i + 1),
    unlisted: name === 'b',
  }));
  const all = draw(series);
  assert.deepEqual(
    all.filter(({ name }) => name === 'g').map(({ attributes }) => attributes.class),
    ['c0', 'c2', 'c0', 'c1', 'c2'],
  );
  assert.ok(!all.some(({ name, text }) => name === 'text' && text === 'b'));
  const alone = [
    { name: 'a', points: points(1, 2) },
    { name: 'b', points: points(2, 3), unlisted: true },
  ];
  assert.equal(draw(alone).filter(({ name }) => name === 'g').length, 3);
});

test('describes itself in words', () => {
  const [, title, description] = draw([{ name: 'reward', points: points(0.25, 0.1, 0.75) }]);
  assert.deepEqual([title.name, title.text], ['title', 'T']);
  assert.equal(description.name, 'desc');
  assert.equal(description.text, 'reward: from 0.25 at step 1 to 0.75 at 3, between 0.1 and 0.75.');
});

test('names are escaped text, whatever they contain', () => {
  const name = `<script>alert("1")</script>&amp;'`;
  const all = draw(
    [
      { name, points: points(1) },
      { name: 'b', points: points(2) },
    ],
    { title: name, subtitle: name, xLabel: name },
  );
  assert.equal(all.filter((element) => element.name === 'script').length, 0);
  assert.equal(all.filter(({ text }) => text === name).length, 5);
});

test('a separate file is an SVG document with its own style', () => {
  const file = chartFile(chart([{ name: 'a', points: points(1, 2) }]));
  const [svg, , , style] = elements(file);
  assert.equal(svg.attributes.xmlns, 'http://www.w3.org/2000/svg');
  assert.equal(style.name, 'style');
  assert.match(style.text, /prefers-color-scheme: dark/);
});

test('numbers have at most four digits', () => {
  const known: [number, string][] = [
    [0, '0'],
    [-0, '0'],
    [1, '1'],
    [-0.25, '-0.25'],
    [1 / 3, '0.3333'],
    [1234.56, '1235'],
    [12345, '12.35k'],
    [1e5, '100k'],
    [999999, '1000k'],
    [1.5e6, '1.5e6'],
    [0.001, '0.001'],
    [0.0001, '1e-4'],
    [1.234567e-7, '1.23e-7'],
    [-2e300, '-2e300'],
  ];
  for (const [value, expected] of known) assert.equal(format(value), expected);
});

test('no data can break the drawing or lead outside it', () => {
  const value = fc.oneof(
    fc.double(),
    fc.double({ min: -1, max: 1 }),
    fc.constantFrom(0, 5e-324),
    fc.constantFrom(0, 1, 1e-320, 1e299, -1e299, 1e308, -1e308, 1 + 1e-15, Number.MAX_VALUE, Number.MIN_VALUE),
  );
  const point = fc.record({ y: value }, { requiredKeys: ['y'] }).chain(({ y }) =>
    fc.record({
      y: fc.constant(y),
      low: fc.option(value, { nil: undefined }),
      high: fc.option(value, { nil: undefined }),
    }),
  );
  const series = fc.record({
    name: fc.string(),
    points: fc.array(point, { maxLength: 12 }).map((list) => list.map((p, i) => ({ ...p, x: i + 1 }))),
    kind: fc.constantFrom('line' as const, 'points' as const, 'area' as const),
    dashed: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(series, { maxLength: 10 }), fc.boolean(), fc.boolean(), (list, ordered, xInteger) => {
      const markup = drawChart(chart(list, { ordered, xInteger }), 'c');
      elements(markup);
      assert.doesNotMatch(markup, /NaN|Infinity|undefined/);
      for (const number of coordinates(markup)) assert.ok(number >= -1 && number <= 481, `${number} in ${markup}`);
      const [, top, , bottom] = /data-plot="([^"]*)"/.exec(markup)![1].split(' ').map(Number);
      assert.ok(bottom - top > 100);
      assert.ok(markup.length < 60_000);
    }),
    { numRuns: 500, seed: 1 },
  );
});
