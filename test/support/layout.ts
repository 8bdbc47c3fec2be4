// How a page is laid out by a browser: what test/support/measure-page.browser.js measures, and what is asked of it on a phone.

import assert from 'node:assert/strict';

export interface Layout {
  /** Of the whole page. */
  width: number;
  headings: string[];
  /** The least height of a chart's texts on the screen. */
  smallestText: number;
  charts: number;
  /** Texts of charts that reach out of their chart. */
  outside: string[];
  /** Numbers of tiles and tables that are cut off or take more than one line. */
  broken: string[];
  /** Tables that must be scrolled sideways. */
  wideTables: number;
}

/** On a phone nothing is cut off, no number is broken and every text of a chart can be read. */
export function assertReadable(layout: Layout): void {
  assert.ok(layout.width <= 390, `${layout.width} pixels wide`);
  assert.ok(layout.charts > 5);
  assert.ok(layout.smallestText >= 11, `texts of ${layout.smallestText} pixels`);
  assert.deepEqual(layout.outside, []);
  assert.deepEqual(layout.broken, []);
  assert.equal(layout.wideTables, 0);
}
