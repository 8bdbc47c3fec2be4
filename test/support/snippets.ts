// The fenced code blocks of README.md and docs/*.md.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Snippet {
  /** Path from the repository's root. */
  file: string;
  /** The first line of the code, counted from 1. */
  line: number;
  /** The language of the fence: `ts`, `js`, `json`, or nothing. */
  language: string;
  code: string;
}

const root = fileURLToPath(new URL('../..', import.meta.url));

export function snippets(): Snippet[] {
  const pages = readdirSync(join(root, 'docs')).filter((file) => file.endsWith('.md'));
  return ['README.md', ...pages.sort().map((page) => join('docs', page))].flatMap(snippetsOf);
}

export function snippetsOf(file: string): Snippet[] {
  const found: Snippet[] = [];
  let open: Snippet | undefined;
  readFileSync(join(root, file), 'utf8')
    .split('\n')
    .forEach((text, i) => {
      const fence = /^```(\S*)/.exec(text);
      if (open && fence) {
        found.push(open);
        open = undefined;
      } else if (open) open.code += `${text}\n`;
      else if (fence) open = { file, line: i + 2, language: fence[1], code: '' };
    });
  if (open) throw new Error(`${file}:${open.line}: a code block without an end`);
  return found;
}
