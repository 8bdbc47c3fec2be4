// The order in which a run takes its task's examples. The cursor counts examples since the start of the run and alone
// determines the example.

import { permutation } from '../base/random.js';
import type { Example, Task } from '../tasks/task.js';

/** The example at each position of a run: an infinite task in its own order, a finite one shuffled anew each epoch. */
export class ExampleOrder<E extends Example> {
  /** The epoch whose order is cached. */
  private round = -1;
  private places: Int32Array | undefined;

  constructor(
    private readonly task: Task<E>,
    private readonly shuffle: boolean,
    private readonly seed: number,
  ) {}

  at(cursor: number): E {
    const { size } = this.task;
    if (size === undefined) return this.task.example(cursor);
    const place = cursor % size;
    if (!this.shuffle) return this.task.example(place);
    const round = Math.floor(cursor / size);
    if (round !== this.round || this.places === undefined) {
      this.places = permutation({ seed: this.seed, purpose: 'order', index: round }, size);
      this.round = round;
    }
    return this.task.example(this.places[place]);
  }
}
