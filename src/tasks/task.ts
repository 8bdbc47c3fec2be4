// What a verifiable task is: problems that a generator makes and a program scores.

/** One problem. */
export interface Example {
  /** What the policy is given. */
  prompt: string;
  /** The right answer. */
  answer: string;
  /** A completion that is right, worked out where the task calls for it: what a warm start learns from. */
  solution: string;
  /** How hard the problem is; the unit is the task's own, larger is harder. */
  difficulty: number;
}

/** A lazy, endless list of problems with a scorer. Pure: no state, and no text is ever evaluated as code. */
export interface Task {
  readonly name: string;
  /** Every character that prompts and solutions consist of. */
  readonly characters: string;
  /** The longest prompt and the longest solution, in characters. */
  readonly maxPromptLength: number;
  readonly maxSolutionLength: number;
  /** Problem `index`, an integer from 0: always the same for the same task and seed. RangeError for another index. */
  example(index: number): Example;
  /** The reward of a completion's text, in [0, 1]; 0 for anything but one answer in the task's form. */
  score(text: string, example: Example): number;
}

/** The first `count` different problems of a task, by their prompts. RangeError when it does not seem to have as many. */
export function distinctExamples(task: Task, count: number): Example[] {
  const found = new Map<string, Example>();
  for (let index = 0; found.size < count; index++) {
    if (index > 1000 + 100 * count) {
      throw new RangeError(
        `count: expected at most the ${found.size} different problems of ${task.name}, got ${count}`,
      );
    }
    const example = task.example(index);
    found.set(example.prompt, example);
  }
  return [...found.values()];
}
