// The layout of a page in a browser, as measured by test/support/measure-page.browser.js, and the requirements for a phone.

import assert from 'node:assert/strict';

export interface Layout {
  /** Of the whole page. */
  width: number;
  headings: string[];
  /** The smallest height of a chart's text on the screen. */
  smallestText: number;
  charts: number;
  /** Text of charts that extends beyond its chart. */
  outside: string[];
  /** Numbers in tiles and tables that are cut off or take more than one line. */
  broken: string[];
  /** Tables that must be scrolled sideways. */
  wideTables: number;
}

/** On a phone nothing is cut off, no number is wrapped and all text of charts is legible. */
export function assertReadable(layout: Layout): void {
  assert.ok(layout.width <= 390, `${layout.width} pixels wide`);
  assert.ok(layout.charts > 5);
  assert.ok(layout.smallestText >= 11, `texts of ${layout.smallestText} pixels`);
  assert.deepEqual(layout.outside, []);
  assert.deepEqual(layout.broken, []);
  assert.equal(layout.wideTables, 0);
}
