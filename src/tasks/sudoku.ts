// Sudoku of 4x4 cells: "1.3.34..2143..21=" to the full grid, row by row.

import { type Draw, generatedTask, tryOften } from './generate.js';
import { checkOptions, checkRange, type GeneratorOptions, type Range, rangeText } from './options.js';
import type { Example, GeneratedTask } from './task.js';

export interface SudokuOptions extends GeneratorOptions {
  /** Blank cells, fewest and most, from 2 to 12. Default [2, 8]. */
  blanks?: Range;
}

const cells = 16;
let allGrids: readonly string[] | undefined;

/** Every row, every column and every 2x2 box holds 1 to 4 once. There are 288 such grids. */
function everyGrid(): readonly string[] {
  allGrids ??= completions([]);
  return allGrids;
}

/**
 * 4x4 sudoku with exactly one solution: of the 288 grids only one fits the given cells. The answer is all 16 cells, the
 * given ones included. The difficulty is the number of blanks. Puzzles with the same solution are one problem, so no grid of a
 * held-out puzzle occurs in training.
 */
export function sudoku(options: SudokuOptions): GeneratedTask {
  const blanks = checkRange('blanks', checkOptions(options, ['blanks']).blanks ?? [2, 8], { min: 2, max: 12 });
  const [fewest, most] = blanks;
  return generatedTask<Example>(options, {
    name: `4x4 sudoku with ${rangeText(blanks, 'blank')}`,
    settings: { blanks },
    characters: '1234.=',
    maxPromptLength: cells + 1,
    maxSolutionLength: cells,
    draw(next) {
      const grids = everyGrid();
      const difficulty = fewest + next(most - fewest + 1);
      const answer = grids[next(grids.length)];
      const puzzle = tryOften(() => drawPuzzle(next, answer, difficulty));
      if (puzzle === undefined) return undefined;
      return { example: { prompt: `${puzzle}=`, answer, solution: answer, difficulty }, problem: answer };
    },
    parse(prompt) {
      if (!/^[1-4.]{16}=$/.test(prompt)) return undefined;
      const puzzle = [...prompt.slice(0, cells)];
      const [answer, other] = solutions(puzzle);
      if (answer === undefined || other !== undefined) return undefined;
      return { prompt, answer, solution: answer, difficulty: puzzle.filter((digit) => digit === '.').length };
    },
    // The solution is unique, so only the answer satisfies the rules and the given cells.
    score: (text, example) => (text === example.answer ? 1 : 0),
  });
}

/**
 * Blanks cells in a random order, keeping those that the solution's uniqueness depends on. Undefined if too many must be
 * kept.
 */
function drawPuzzle(next: Draw, grid: string, blanks: number): string | undefined {
  const order = shuffled(next);
  const puzzle = [...grid];
  let left = blanks;
  for (let i = 0; i < cells && left > 0; i++) {
    const cell = order[i];
    puzzle[cell] = '.';
    if (hasOneSolution(puzzle)) left--;
    else puzzle[cell] = grid[cell];
  }
  return left === 0 ? puzzle.join('') : undefined;
}

function shuffled(next: Draw): number[] {
  const order = Array.from({ length: cells }, (_, i) => i);
  for (let i = cells - 1; i > 0; i--) {
    const j = next(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

function hasOneSolution(puzzle: readonly string[]): boolean {
  return solutions(puzzle).length === 1;
}

/** The grids that fit the given cells; no more than two. */
function solutions(puzzle: readonly string[]): string[] {
  const given = puzzle.flatMap((digit, cell) => (digit === '.' ? [] : [cell]));
  const fitting: string[] = [];
  for (const grid of everyGrid()) {
    if (given.every((cell) => grid[cell] === puzzle[cell]) && fitting.push(grid) > 1) break;
  }
  return fitting;
}

/** All grids that begin with some cells, in order. */
function completions(begin: readonly string[]): string[] {
  const cell = begin.length;
  if (cell === cells) return [begin.join('')];
  return ['1', '2', '3', '4'].flatMap((digit) => {
    const clashes = begin.some((other, i) => other === digit && see(i, cell));
    return clashes ? [] : completions([...begin, digit]);
  });
}

/** Whether two cells share a row, a column or a box. */
function see(a: number, b: number): boolean {
  const [rowA, rowB, columnA, columnB] = [a >> 2, b >> 2, a & 3, b & 3];
  return rowA === rowB || columnA === columnB || (rowA >> 1 === rowB >> 1 && columnA >> 1 === columnB >> 1);
}
