// Copying, reversing and sorting letters: "dog=" to "dog", "god", "dgo".

import { type Draw, generatedTask } from './generate.js';
import { checkOptions, checkRange, type GeneratorOptions, type Range, rangeText } from './options.js';
import type { Example, GeneratedTask } from './task.js';

export interface LettersOptions extends GeneratorOptions {
  /** Letters of a prompt, fewest and most, from 1 to 32. Default [1, 8]. */
  length?: Range;
}

const letters = 'abcdefghijklmnopqrstuvwxyz';

/** Copying. The difficulty is the number of letters. */
export function copy(options: LettersOptions): GeneratedTask {
  return lettersTask('copying', options, (word) => ({ answer: word, problem: word }));
}

/** Reversing. The difficulty is the number of letters. A word and its reverse are one problem. */
export function reverse(options: LettersOptions): GeneratedTask {
  return lettersTask('reversing', options, (word) => {
    const answer = [...word].reverse().join('');
    return { answer, problem: word < answer ? word : answer };
  });
}

/** Sorting into alphabetical order. The difficulty is the number of letters. All orders of some letters are one problem. */
export function sort(options: LettersOptions): GeneratedTask {
  return lettersTask('sorting', options, (word) => {
    const answer = [...word].sort().join('');
    return { answer, problem: answer };
  });
}

function lettersTask(
  name: string,
  options: LettersOptions,
  solve: (word: string) => { answer: string; problem: string },
): GeneratedTask {
  const length = checkRange('length', checkOptions(options, ['length']).length ?? [1, 8], { min: 1, max: 32 });
  const [fewest, most] = length;
  const pose = (word: string): Example => {
    const { answer } = solve(word);
    return { prompt: `${word}=`, answer, solution: answer, difficulty: word.length };
  };
  return generatedTask<Example>(options, {
    name: `${name} ${rangeText(length, 'letter')}`,
    settings: { length },
    characters: `${letters}=`,
    maxPromptLength: most + 1,
    maxSolutionLength: most,
    draw(next) {
      const word = drawWord(next, fewest + next(most - fewest + 1));
      return { example: pose(word), problem: solve(word).problem };
    },
    parse: (prompt) => (/^[a-z]+=$/.test(prompt) ? pose(prompt.slice(0, -1)) : undefined),
    score: (text, example) => (text === example.answer ? 1 : 0),
  });
}

function drawWord(next: Draw, length: number): string {
  return Array.from({ length }, () => letters[next(letters.length)]).join('');
}
