// Verifiable tasks.

export { type AdditionOptions, addition } from './addition.js';
export { distinctExamples, type Example, type Task } from './task.js';
