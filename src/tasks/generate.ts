// The common part of generated tasks: an example for every index, drawn until one belongs to the split.

import { integer, type Stream } from '../base/random.js';
import { checkIndex, type GeneratorOptions } from './options.js';
import { withSource } from './source.js';
import { type ProblemKey, splitOf } from './split.js';
import type { Example, GeneratedTask } from './task.js';

/** The next random integer in [0, below). */
export type Draw = (below: number) => number;

export interface Generator<E extends Example> extends Omit<GeneratedTask<E>, 'size' | 'example'> {
  /** The generator's own options with their defaults, which identify the task when a run resumes: plain JSON. */
  settings: Readonly<Record<string, unknown>>;
  /** Draws a problem; undefined if this attempt failed. */
  draw(next: Draw): { example: E; problem: ProblemKey } | undefined;
}

const maxAttempts = 10_000;

/** A task from its generator. The options have been checked. */
export function generatedTask<E extends Example>(
  { seed, size, split = 'train' }: GeneratorOptions,
  { draw, settings, ...task }: Generator<E>,
): GeneratedTask<E> {
  const stream: Stream = { seed, purpose: 'examples' };
  const made: GeneratedTask<E> = {
    ...task,
    size,
    example(index) {
      checkIndex(index, size);
      for (let attempt = 0; attempt < maxAttempts; attempt++) {
        let drawn = 0;
        const problem = draw((below) => integer(stream, below, index, attempt, drawn++));
        if (problem && splitOf(problem.problem) === split) return problem.example;
      }
      throw new RangeError(
        `options: expected options that allow problems of the split '${split}'; ${maxAttempts} attempts at ${task.name} produced none`,
      );
    },
  };
  return withSource(made, { seed, split, ...settings });
}

/**
 * The first successful attempt. What was drawn before, such as a difficulty, keeps its probability: a hard problem is not
 * skipped because it takes more attempts.
 */
export function tryOften<T>(attempt: () => T | undefined): T | undefined {
  for (let i = 0; i < 200; i++) {
    const result = attempt();
    if (result !== undefined) return result;
  }
  return undefined;
}
