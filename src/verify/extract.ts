// Extracts the final answer from a completion. Every function takes linear time in the length of the text.

import { maxAnswer } from './normalise.js';

/** A run of characters that could be one number with its sign, unit, exponent or fraction, without spaces. */
const numberLike = /[\p{L}\d.,:/^_%°+\-−*×±$€£\\{}()]+/gu;

/**
 * The last match of the first kind that occurs: `\boxed{…}`, "final answer is …", "Answer: …", `#### …`, the last formula
 * between dollars; then the whole text if `isAnswer` accepts it as a bare answer; then the last number. Null if there is none, ''
 * if a kind occurs without content.
 */
export function extractAnswer(text: string, isAnswer: (text: string) => boolean): string | null {
  return extractMarked(text) ?? lastFormula(text) ?? bareAnswer(text, isAnswer) ?? lastNumber(text);
}

/** The kinds of answers that a completion marks explicitly, by words or signs. */
export function extractMarked(text: string): string | null {
  return (
    lastBoxed(text) ??
    lastStatement(text, /final\s{1,4}answer\s{1,4}is\b/gi) ??
    lastStatement(text, /\banswer[ \t]{0,4}[*_]{0,3}[ \t]{0,4}:/gi) ??
    lastStatement(text, /####/g)
  );
}

/** The content of the last `\boxed{…}` or `\fbox{…}` with balanced braces and some content. */
export function lastBoxed(text: string): string | null {
  const opened: number[] = [];
  const boxes = new Set<number>();
  for (const match of text.matchAll(/\\(?:boxed|fbox)\s{0,4}\{/g)) boxes.add(match.index + match[0].length - 1);
  if (boxes.size === 0) return null;
  let found: [number, number] | undefined;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '\\' && !boxes.has(at)) at++;
    else if (char === '{') opened.push(at);
    else if (char === '}') {
      const open = opened.pop();
      if (open === undefined || !boxes.has(open)) continue;
      // The last to open; of nested boxes, the inner one.
      if ((found === undefined || open > found[0]) && !isBlank(text, open + 1, at)) found = [open, at];
    }
  }
  // An unfinished last box does not confirm an earlier answer.
  const unfinished = opened.some((open) => boxes.has(open) && (found === undefined || open > found[0]));
  if (found === undefined || unfinished) return '';
  return text.slice(found[0] + 1, found[1]).trim();
}

function isBlank(text: string, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (!/\s/.test(text[at])) return false;
  return true;
}

/** What follows the last match of `lead`: a formula if one begins there, else the rest of the line or sentence. */
function lastStatement(text: string, lead: RegExp): string | null {
  let end = -1;
  for (const match of text.matchAll(lead)) end = match.index + match[0].length;
  if (end < 0) return null;
  const rest = text.slice(end, end + maxAnswer).replace(/^[\s:*_]+/, '');
  const newline = rest.indexOf('\n');
  const line = newline < 0 ? rest : rest.slice(0, newline);
  const formula = /^(?:\$\$([^$]+)\$\$|\$([^$\n]*[^$\s\\])\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\])/.exec(line);
  if (formula) {
    const after = line.slice(formula[0].length);
    // "$2$ or $3$" and "$5$ million" mean more than their first formula.
    if (/^(?:$|[.;!?*_]|\s+[A-Z(])/.test(after.trimEnd()))
      return (formula[1] ?? formula[2] ?? formula[3] ?? formula[4]).trim();
  }
  return trimAnswer(line.replace(/[.!?](?:[*_]{0,3})\s+\p{Lu}.*$/su, ''));
}

/** Removes surrounding Markdown and the full stop. */
export function trimAnswer(text: string): string {
  const trimmed = text.trim();
  if (trimmed.length > maxAnswer) return trimmed;
  return trimmed
    .replace(/^(?:\*{1,3}|_{2,3}|`)+\s*|\s*(?:\*{1,3}|_{2,3}|`)+$/g, '')
    .replace(/(?:\s*[.;])?(?:\*{1,3}|_{2,3}|`)*$/, '')
    .trim();
}

/** The content of the last $…$, $$…$$, \(…\) or \[…\]. A dollar of currency neither opens nor closes a formula. */
function lastFormula(text: string): string | null {
  let found: string | null = null;
  let open = -1;
  let opener = '';
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '\\') {
      const next = text[at + 1];
      if (next === '(' || next === '[') {
        open = at + 2;
        opener = next;
      } else if ((next === ')' && opener === '(') || (next === ']' && opener === '[')) {
        if (!isBlank(text, open, at)) found = text.slice(open, at);
        opener = '';
      }
      at++;
    } else if (char === '$') {
      const width = text[at + 1] === '$' ? 2 : 1;
      const closes = width === 2 || (!/\s/.test(text[at - 1] ?? ' ') && !/\d/.test(text[at + 1] ?? ''));
      if (opener === '$'.repeat(width) && closes) {
        if (!isBlank(text, open, at)) found = text.slice(open, at);
        opener = '';
      } else if (opener === '' || opener.startsWith('$')) {
        const opens = width === 2 || /\S/.test(text[at + 1] ?? ' ');
        opener = opens ? '$'.repeat(width) : '';
        open = at + width;
      }
      at += width - 1;
    }
  }
  return found === null ? null : found.trim();
}

/** The whole text, if it is one line that is an answer and nothing else. */
function bareAnswer(text: string, isAnswer: (text: string) => boolean): string | null {
  const trimmed = text.length > maxAnswer ? '' : text.trim();
  if (trimmed === '' || trimmed.includes('\n\n')) return null;
  const answer = trimAnswer(trimmed);
  return answer !== '' && isAnswer(answer) ? answer : null;
}

/** Words that change the number before them. */
const scales =
  /^[\s-]{1,3}(hundreds?|thousands?|[mbtr]{1,2}illions?|dozens?|percent|squared|cubed|factorial|hal(?:f|ves)|thirds?|quarters?|fifths?|tenths?)\b/i;

/** The last run of characters with a digit, without anything before an equals sign. */
function lastNumber(text: string): string | null {
  let found: string | null = null;
  let before = '';
  let scale = '';
  for (const match of text.matchAll(numberLike)) {
    if (!/\d/.test(match[0])) continue;
    found = match[0];
    before = text.slice(Math.max(0, match.index - 40), match.index);
    const end = match.index + match[0].length;
    scale = scales.exec(text.slice(end, end + 40))?.[1] ?? '';
  }
  if (found === null) return null;
  // "2.5 × 10^-3" is one number.
  const scaled = /^10\^/.test(found) ? /(-?\d+(?:\.\d+)?)\s{0,2}(?:×|x|\*|\\times)\s{1,2}$/.exec(before) : null;
  const sign = /(?:^|[\s=(])([-−±])\s?$/.exec(before)?.[1] ?? '';
  if (found.length > maxAnswer) return found;
  const number = scaled ? `${scaled[1]}\\times ${found}` : /^[-−±]/.test(found) ? found : sign + found;
  if (scale !== '') return `${number} ${scale}`;
  return trimAnswer(
    number
      .replace(/^[.,:*(]+(?=\D|$)|[,:*+\-/^_\\]+$/g, '')
      .replace(/^\((.*[^)])$/, '$1')
      .replace(/^([^(]*)\)+$/, '$1'),
  );
}
