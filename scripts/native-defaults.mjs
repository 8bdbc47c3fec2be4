// Writes the defaults and bounds of the C entry, native/c/defaults.hpp, from src/loss/config.ts: `npm run native-defaults`; with
// --check, says whether the file is up to date.

import { readFileSync, writeFileSync } from 'node:fs';
import { resolveFields } from '../src/base/schema.ts';
import { callFields, lossDefaults, resolveAdvantage } from '../src/loss/config.ts';

const target = 'native/c/defaults.hpp';

/** The enums of native/core/config.hpp, whose values are named as TypeScript's are. */
const enums = {
  ratio: 'Ratio',
  aggregation: 'Aggregation',
  estimator: 'KlEstimator',
  center: 'Center',
  scale: 'Scale',
};

function camelCase(name) {
  return name.replace(/[-_](\w)/g, (_, letter) => letter.toUpperCase());
}

function number(value) {
  if (Number.isNaN(value)) return 'NAN';
  return Number.isFinite(value) ? String(value) : 'INFINITY';
}

function constant(name, value) {
  const type = enums[name.split('.').at(-1)];
  const constantName = `k${camelCase(`_${name.replaceAll('.', '_')}`)}`;
  if (typeof value === 'boolean') return `constexpr bool ${constantName} = ${value};`;
  if (typeof value === 'number') return `constexpr double ${constantName} = ${number(value)};`;
  return `constexpr ${type} ${constantName} = ${type}::${camelCase(value)};`;
}

/** The fields of an object and of those in it, by dotted names. */
function fieldsOf(object, prefix = '') {
  return Object.entries(object).flatMap(([name, value]) =>
    typeof value === 'object' ? fieldsOf(value, `${prefix}${name}.`) : [[prefix + name, value]],
  );
}

const { emptySequences, ...loss } = lossDefaults;
// A request of the C entry has question weights where it gives their temperature, and one size for all groups.
const { dqw: _, groupSize: __, groupSizes: ___, ...advantage } = resolveAdvantage('advantage', { hadw: {} });
const { temperature, lossScale, metrics } = callFields;
const parts = [
  { ...loss, dropEmptySequences: emptySequences === 'drop' },
  advantage,
  {
    ...resolveFields({ temperature, metrics, lossScale }, '', {}),
    minTemperature: temperature.bounds.min,
    minLossScale: lossScale.bounds.min,
  },
];

const text = `// Written by \`npm run native-defaults\` from src/loss/config.ts, where changes belong.
#pragma once

#include <cmath>

#include "../core/config.hpp"

namespace groupgrad::defaults {

${parts
  .map((part) =>
    fieldsOf(part)
      .map(([name, value]) => constant(name, value))
      .join('\n'),
  )
  .join('\n\n')}

}  // namespace groupgrad::defaults
`;

if (!process.argv.includes('--check')) writeFileSync(target, text);
else if (readFileSync(target, 'utf8') !== text) {
  console.error(`${target} is not what src/loss/config.ts says: npm run native-defaults`);
  process.exit(1);
}
