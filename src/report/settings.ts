// Settings of a run as shown in a report: by dotted paths.

import { markup } from './text.js';

export type Settings = readonly (readonly [path: string, value: string])[];

const maxLines = 400;
const maxCharacters = 500;

/** A configuration by dotted paths, in its own order; very long ones are truncated. */
export function flatten(config: Readonly<Record<string, unknown>>): Settings {
  const lines: [string, string][] = [];
  const visit = (path: string, value: unknown) => {
    if (lines.length >= maxLines) return;
    const isTree =
      typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0;
    if (isTree) {
      for (const [key, child] of Object.entries(value)) visit(path ? `${path}.${key}` : key, child);
      return;
    }
    const text = JSON.stringify(value);
    lines.push([path, text.length > maxCharacters ? `${text.slice(0, maxCharacters)}…` : text]);
  };
  visit('', config);
  if (lines.length >= maxLines) lines.push(['…', `only the first ${maxLines} values are shown`]);
  return lines;
}

export function renderSettings(settings: Settings): string {
  const rows = settings.map(
    ([path, value]) => `<tr><td><code>${markup(path)}</code></td><td><code>${markup(value)}</code></td></tr>`,
  );
  return `<div class="table config"><table><tbody>${rows.join('')}</tbody></table></div>`;
}
