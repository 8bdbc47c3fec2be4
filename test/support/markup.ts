// Checks that a text is well-formed markup: every element is closed in order, every attribute is quoted, and everything is
// escaped. Sufficient for the HTML and SVG that this package writes; not a general parser.

import assert from 'node:assert/strict';

const emptyElements = new Set(['meta', 'br', '!doctype']);

export interface Element {
  name: string;
  attributes: Record<string, string>;
  /** The text directly inside, entities resolved. */
  text: string;
}

/** All elements in the order of their beginnings. */
export function elements(markup: string): Element[] {
  const all: Element[] = [];
  const open: Element[] = [];
  const token = /<(\/?)([!a-zA-Z][\w-]*)((?:\s+[\w:-]+(?:="[^"<]*")?)*)\s*(\/?)>|([^<]+)/y;
  while (token.lastIndex < markup.length) {
    const at = token.lastIndex;
    const match = token.exec(markup);
    assert.ok(match, `markup at ${JSON.stringify(markup.slice(at, at + 80))}`);
    const [, close, name, attributes, selfClose, text] = match;
    const parent = open[open.length - 1];
    if (text !== undefined) {
      if (parent) parent.text += unescapeText(text);
      continue;
    }
    if (close) {
      assert.equal(open.pop()?.name, name, 'elements are closed in order');
      continue;
    }
    const found = [...attributes.matchAll(/([\w:-]+)(?:="([^"]*)")?/g)];
    const element: Element = {
      name,
      attributes: Object.fromEntries(found.map(([, key, value = '']) => [key, unescapeText(value)])),
      text: '',
    };
    all.push(element);
    if (name === 'script' || name === 'style') {
      // Their content is not markup: it ends where the element ends.
      const end = markup.indexOf(`</${name}>`, token.lastIndex);
      element.text = markup.slice(token.lastIndex, end);
      token.lastIndex = end;
    }
    if (!selfClose && !emptyElements.has(name.toLowerCase())) open.push(element);
  }
  assert.deepEqual(open, [], 'every element is closed');
  return all;
}

function unescapeText(text: string): string {
  assert.doesNotMatch(text, /&(?!#\d+;)/, 'entities are numbers');
  return text.replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code)));
}
