// Graders of completions, under one name.

import { choice, exact, gsm8k, json, maths, number, regex } from './graders.js';

export type { Grade, GradeOptions } from './grade.js';
export type { ChoiceOptions, ExactOptions, NumericOptions } from './graders.js';
export type { JsonSchema } from './json-schema.js';

/** Graders: a completion and what is right, to a verdict. Bounded in time, memory and length; deterministic. */
export const verify = { maths, gsm8k, number, choice, exact, regex, json } as const;
