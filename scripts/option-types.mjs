// Writes the types of options from their schemas: `npm run option-types`; with --check, reports whether the files are up to date.

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { documentationOf } from '../src/base/schema.ts';
import { anchorFields } from '../src/loss/anchor.ts';
import { advantageFields, callFields, entropyFields, klFields, lossFields } from '../src/loss/config.ts';
import { advantage, importanceSampling, optimizer, trainerFields, warmStart } from '../src/train/schema.ts';

const width = 118;
/** Names that the types of a file import, and their modules. */
let imports = new Map();

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

const files = [
  {
    target: 'src/loss/option-types.ts',
    from: 'src/loss/config.ts and src/loss/anchor.ts',
    interfaces: () => [
      interfaceOf('KlConfig', klFields),
      interfaceOf('EntropyConfig', entropyFields),
      interfaceOf('LossConfig', lossFields),
      interfaceOf(
        'AdvantageConfig',
        advantageFields,
        'How rewards become advantages. Group sizes: exactly one of `groupSize` and `groupSizes`.',
      ),
      interfaceOf('AnchorOptions', anchorFields),
      interfaceOf('CallOptions', callFields, 'Numbers and switches of calls; each call takes some of them.'),
    ],
  },
  {
    target: 'src/train/option-types.ts',
    from: 'src/train/schema.ts',
    interfaces: () => [
      interfaceOf('OptimizerOptions', optimizer.fields),
      interfaceOf('WarmStartOptions', warmStart.fields, warmStart.doc),
      interfaceOf('ImportanceSamplingOptions', importanceSampling.fields, importanceSampling.doc),
      interfaceOf('AdvantageOptions', advantage.fields, 'How advantages are computed, apart from groups and HA-DW.'),
      interfaceOf(
        'TrainerSettings',
        trainerFields,
        'The settings of a trainer: numbers and names, as a configuration file holds them.',
      ),
    ],
  },
];

for (const { target, from, interfaces } of files) {
  imports = new Map();
  const written = interfaces();
  const heads = [...group(imports)].map(
    ([module, names]) => `import type { ${names.sort().join(', ')} } from '${module}';`,
  );
  const text = [
    `// Written by \`npm run option-types\` from ${from}, where changes belong.`,
    heads.sort().join('\n'),
    ...written,
  ];
  const formatted = execFileSync('npx', ['biome', 'check', '--write', `--stdin-file-path=${target}`], {
    input: `${text.join('\n\n')}\n`,
    encoding: 'utf8',
  });
  if (!process.argv.includes('--check')) writeFileSync(target, formatted);
  else if (readFileSync(target, 'utf8') !== formatted) {
    console.error(`${target} does not match ${from}: run npm run option-types`);
    process.exitCode = 1;
  }
}

/** Names by module. */
function group(entries) {
  const groups = new Map();
  for (const [name, module] of entries) groups.set(module, [...(groups.get(module) ?? []), name]);
  return groups;
}
