// What a verifiable task is: problems that a generator makes and a program scores.

import type { ChatMessage } from '../text/chat-template.js';

/** One problem. */
export interface Example {
  /** What the policy is given; with `messages`, what people are shown of it. */
  prompt: string;
  /** A chat in place of a prompt: the policy is given what its chat template makes of it. */
  messages?: readonly ChatMessage[];
  /** The right answer; one of them where there are several. */
  answer: string;
  /** A completion that is right, worked out where the task calls for it: what a warm start learns from. */
  solution: string;
  /** How hard the problem is; the unit is the task's own, larger is harder. */
  difficulty: number;
}

/** A lazy list of problems with a scorer. Pure: no state, and no text is ever evaluated as code. */
export interface Task<E extends Example = Example> {
  readonly name: string;
  /** Every character that prompts and solutions consist of. Left out by a task that does not know. */
  readonly characters?: string;
  /** The longest prompt and the longest solution, in characters. Left out by a task that does not know. */
  readonly maxPromptLength?: number;
  readonly maxSolutionLength?: number;
  /** Number of problems; left out for a list without an end. */
  readonly size?: number;
  /**
   * Problem `index`, an integer from 0 and below `size`: always the same for the same task and seed, on every machine.
   * RangeError for another index.
   */
  example(index: number): E;
  /**
   * The reward of a completion's text, in [0, 1]; 0 for anything but one answer in the task's form. A promise where a grader
   * takes its time; one that is not settled within a minute fails the step.
   */
  score(text: string, example: E): number | Promise<number>;
  /** The score with what was read as the answer, for evaluations to show. Optional. */
  grade?(text: string, example: E): Scored | Promise<Scored>;
  /**
   * The problem that a prompt poses, of whatever size; undefined for a text that poses none. `groupgrad sample` needs it to tell
   * whether a completion is right. Optional.
   */
  parse?(prompt: string): E | undefined;
  /** How completions write answers where people write them otherwise, in a sentence. Optional, together with `readAnswer`. */
  readonly notation?: string;
  /** The answer in a completion as people write it: "521" to "125". undefined where the text has no answer in the task's form. */
  readAnswer?(text: string): string | undefined;
}

/** What was made of a completion. */
export interface Scored {
  /** In [0, 1]. */
  score: number;
  /** What was read as the answer; null where none was found, left out where a scorer does not say. */
  extracted?: string | null;
  /** Why the score is what it is, in a few words. */
  reason?: string;
}

/** Problems that need not have a score: a run then scores them by the first of its rewards that grades. */
export type Problems<E extends Example = Example> = Omit<Task<E>, 'score'> & Partial<Pick<Task<E>, 'score'>>;

/** A task whose problems code generates: it knows its texts, and scores at once. */
export interface GeneratedTask<E extends Example = Example> extends Task<E> {
  readonly characters: string;
  readonly maxPromptLength: number;
  readonly maxSolutionLength: number;
  score(text: string, example: E): number;
}

/** The first `count` different problems of a task, by their prompts. RangeError when it does not seem to have as many. */
export function distinctExamples<E extends Example>(task: Task<E>, count: number): E[] {
  const found = new Map<string, E>();
  for (let index = 0; found.size < count; index++) {
    if (index === task.size || index > 1000 + 100 * count) {
      throw new RangeError(
        `count: expected at most the ${found.size} different problems of ${task.name}, got ${count}`,
      );
    }
    const example = task.example(index);
    found.set(example.prompt, example);
  }
  return [...found.values()];
}
