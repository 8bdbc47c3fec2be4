// `groupgrad settings`: lists every setting of a run that --set can change, from the schema of the trainer's options.

import { type Described, documentationOf } from '../base/schema.js';
import { presetField } from '../config/load.js';
import { trainerFields } from '../train/schema.js';
import { parse, UsageError } from './arguments.js';
import { wrap } from './terminal.js';

export const help = `groupgrad settings [PATH]

  Lists the settings of a run, which a configuration file states and --set PATH=VALUE changes: paths, types, meaning,
  ranges, defaults.
  With PATH, those that begin with it: groupgrad settings sampling
`;

/** What a configuration may state: the trainer's settings, and for the loss a preset. */
const fields: Readonly<Record<string, Described>> = {
  ...trainerFields,
  loss: { ...trainerFields.loss, fields: { preset: presetField, ...trainerFields.loss.fields } },
};

export async function settings(args: readonly string[]): Promise<void> {
  const { positionals } = parse(args, args.length === 0 ? [] : ['a path'], {});
  const [start = ''] = positionals;
  const found = settingsOf(fields).filter(({ path }) => `${path}.`.startsWith(start === '' ? '' : `${start}.`));
  if (found.length === 0) {
    throw new UsageError(`${start}: expected one of ${Object.keys(fields).join(', ')}, or a path below it`);
  }
  for (const { path, type, text } of found) {
    console.log(type === '' ? path : `${path}  ${type}`);
    if (text !== '') console.log(`    ${wrap(text, { indent: 4 })}`);
  }
}

interface Listed {
  path: string;
  type: string;
  text: string;
}

/** All settings under a path; a group comes before its settings. */
function settingsOf(fields: Readonly<Record<string, Described>>, at = ''): Listed[] {
  return Object.entries(fields).flatMap(([name, field]) => {
    const path = `${at}${name}`;
    const text = documentationOf(field);
    if (!field.fields) return [{ path, type: field.bounds?.integer ? 'integer' : field.type, text }];
    return [...(text === '' ? [] : [{ path, type: '', text }]), ...settingsOf(field.fields, `${path}.`)];
  });
}
