// Users' text files, as editors and shells write them: with or without a byte-order mark.

import { readFileSync } from 'node:fs';

/** Encodings by the mark that announces them; without one a file is UTF-8. */
const marks: readonly { encoding: string; bytes: readonly number[] }[] = [
  { encoding: 'utf-16le', bytes: [0xff, 0xfe] },
  { encoding: 'utf-16be', bytes: [0xfe, 0xff] },
];

/**
 * The text of a file in UTF-8 or, as PowerShell redirects it, in UTF-16 with its byte-order mark; without the mark.
 * The file system's error if it cannot be read, TypeError if it is not valid text.
 */
export function readText(path: string): string {
  return decodeText(readFileSync(path));
}

/** Like `readText`, for the content of a file. */
export function decodeText(content: Uint8Array): string {
  // The decoder removes the mark of its own encoding.
  return new TextDecoder(markOf(content)?.encoding ?? 'utf-8', { fatal: true }).decode(content);
}

/** Whether content begins with a byte-order mark of UTF-16. */
export function isUtf16(content: Uint8Array): boolean {
  return markOf(content) !== undefined;
}

function markOf(content: Uint8Array) {
  return marks.find(({ bytes }) => bytes.every((byte, i) => content[i] === byte));
}
