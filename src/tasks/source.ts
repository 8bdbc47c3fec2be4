// Where the problems of a task come from. Runs compare it when they resume.

/** A data file. */
export interface FileSource {
  file: string;
  /** SHA-256 of the whole file, in hexadecimal. */
  sha256: string;
  /** Problems in the whole file, before any split. */
  problems: number;
  split: string | null;
}

/** A data file, or the options of a generator with all defaults. Plain JSON. */
export type TaskSource = FileSource | Readonly<Record<string, unknown>>;

/** A registered symbol, because a configuration may load its own copy of this module. */
const key = Symbol.for('groupgrad.task.source');

/** Attaches a source to a task. Not enumerable, so that `{ ...task, example }`, which has other problems, does not copy it. */
export function withSource<T extends object>(task: T, source: TaskSource): T {
  return Object.defineProperty(task, key, { value: source });
}

/** undefined for a task created by the user's own code. */
export function sourceOfTask(task: object): TaskSource | undefined {
  return (task as { [key]?: TaskSource })[key];
}
