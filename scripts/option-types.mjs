// Writes the types of the trainer's options from their schema: `npm run option-types`; with --check, reports whether the file is
// up to date.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { documentationOf } from '../src/base/schema.ts';
import { importanceSampling, optimizer, trainerFields, warmStart } from '../src/train/schema.ts';

const target = 'src/train/option-types.ts';
const width = 118;
const imports = new Map();

/** A comment with this text, indented. */
function comment(text, indent) {
  const one = `${indent}/** ${text} */`;
  if (one.length <= width) return one;
  const lines = [''];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== '' && indent.length + 3 + last.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return [`${indent}/**`, ...lines.map((line) => `${indent} * ${line}`), `${indent} */`].join('\n');
}

function typeOf(field, indent) {
  for (const [name, from] of Object.entries(field.imports ?? {})) imports.set(name, from);
  if (field.type !== '') return field.type;
  return `{\n${members(field.fields, `${indent}  `)}\n${indent}}`;
}

function members(fields, indent) {
  return Object.entries(fields)
    .map(([name, field]) => {
      const text = documentationOf(field);
      const sign = field.fallback === undefined ? '' : '?';
      const member = `${indent}${name}${sign}: ${typeOf(field, indent)};`;
      return text === '' ? member : `${comment(text, indent)}\n${member}`;
    })
    .join('\n');
}

function interfaceOf(name, fields, doc = '') {
  const head = doc === '' ? '' : `${comment(doc, '')}\n`;
  return `${head}export interface ${name} {\n${members(fields, '  ')}\n}`;
}

const interfaces = [
  interfaceOf('OptimizerOptions', optimizer.fields),
  interfaceOf('WarmStartOptions', warmStart.fields, warmStart.doc),
  interfaceOf('ImportanceSamplingOptions', importanceSampling.fields, importanceSampling.doc),
  interfaceOf(
    'TrainerSettings',
    trainerFields,
    'The settings of a trainer: numbers and names, as a configuration file holds them.',
  ),
];
const modules = Map.groupBy ? Map.groupBy(imports, ([, from]) => from) : group(imports);
const heads = [...modules].map(
  ([from, names]) =>
    `import type { ${names
      .map(([name]) => name)
      .sort()
      .join(', ')} } from '${from}';`,
);
const text = [
  '// Written by `npm run option-types` from src/train/schema.ts, where changes belong.',
  heads.sort().join('\n'),
  ...interfaces,
].join('\n\n');
const formatted = execFileSync('npx', ['biome', 'check', '--write', `--stdin-file-path=${target}`], {
  input: `${text}\n`,
  encoding: 'utf8',
});
if (!process.argv.includes('--check')) writeFileSync(target, formatted);
else if (readFileSync(target, 'utf8') !== formatted) {
  console.error(`${target} does not match src/train/schema.ts: run npm run option-types`);
  process.exit(1);
}

function group(entries) {
  const groups = new Map();
  for (const entry of entries) groups.set(entry[1], [...(groups.get(entry[1]) ?? []), entry]);
  return groups;
}
