// `groupgrad settings`: lists every setting of a run that --set can change, from the schema of the trainer's options.

import { documentationOf, type Fields } from '../base/schema.js';
import { trainerFields } from '../train/schema.js';
import { parse, UsageError } from './arguments.js';
import { wrap } from './terminal.js';

export const help = `groupgrad settings [PATH]

  Lists the settings of a run, which a configuration file states and --set PATH=VALUE changes: paths, types, meaning,
  defaults. With PATH, those that begin with it: groupgrad settings sampling
`;

export async function settings(args: readonly string[]): Promise<void> {
  const { positionals } = parse(args, args.length === 0 ? [] : ['a path'], {});
  const [start = ''] = positionals;
  const found = settingsOf(trainerFields).filter(({ path }) => `${path}.`.startsWith(start === '' ? '' : `${start}.`));
  if (found.length === 0) {
    throw new UsageError(`${start}: expected one of ${Object.keys(trainerFields).join(', ')}, or a path below it`);
  }
  for (const { path, type, text } of found) {
    console.log(`${path}  ${type}`);
    if (text !== '') console.log(`    ${wrap(text, { indent: 4 })}`);
  }
}

interface Listed {
  path: string;
  type: string;
  text: string;
}

/** All settings under a path; a group comes before its settings. */
function settingsOf(fields: Fields, at = ''): Listed[] {
  return Object.entries(fields).flatMap(([name, field]) => {
    const path = `${at}${name}`;
    const text = documentationOf(field);
    if (!field.fields) return [{ path, type: field.type, text }];
    return [...(text === '' ? [] : [{ path, type: '', text }]), ...settingsOf(field.fields, `${path}.`)];
  });
}
