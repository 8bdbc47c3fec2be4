// Surrogates for tests, from the table in src/loss/config.ts: one that is added there is tested everywhere.

import type { Surrogate } from '../../src/index.js';
import { surrogateFields } from '../../src/loss/config.js';
import type { Random } from './random.js';

interface Field {
  min?: number;
  above?: number;
  default?: number;
}

type Choose = (low: number, high: number) => number;

/**
 * A value close to where the surrogate has a kink for the ratios that tests draw, which are around 1: a multiple of the default; a margin
 * around 1 (`min`); or a bound on a ratio (`above`).
 */
function parameter(field: Field, choose: Choose): number {
  if (field.default !== undefined && Number.isFinite(field.default)) return field.default * choose(0.5, 1.5);
  if (field.above === undefined) return (field.min ?? 0) + choose(0.1, 0.4);
  return Math.max(field.above, 0.9) + choose(0.05, 0.5);
}

function surrogate(kind: keyof typeof surrogateFields, choose: Choose, isGiven: (field: Field) => boolean): Surrogate {
  const fields = Object.entries<Field>(surrogateFields[kind]);
  const given = fields.filter(([, field]) => field.default === undefined || isGiven(field));
  return { kind, ...Object.fromEntries(given.map(([name, field]) => [name, parameter(field, choose)])) } as Surrogate;
}

export const surrogateKinds = Object.keys(surrogateFields) as (keyof typeof surrogateFields)[];

export function drawSurrogate(random: Random): Surrogate {
  return surrogate(
    random.pick(surrogateKinds),
    (low, high) => random.uniform(low, high),
    () => random.chance(0.4),
  );
}

/** Every surrogate with its required options, and with all of its options, by name. */
export function surrogateExamples(): Record<string, Surrogate> {
  const middle: Choose = (low, high) => (low + high) / 2;
  const entries = surrogateKinds.flatMap((kind) => {
    const [least, most] = [false, true].map((all) => surrogate(kind, middle, () => all));
    const isOne = Object.keys(least).length === Object.keys(most).length;
    return isOne
      ? [[kind, least]]
      : [
          [kind, least],
          [`${kind} with all parameters`, most],
        ];
  });
  return Object.fromEntries(entries) as Record<string, Surrogate>;
}
