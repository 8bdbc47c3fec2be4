// A step's groups and a run's state among the processes that train together: each samples its share of the prompts, and all go on
// with all groups and from the first one's state.

import type { Processes } from '../processes/processes.js';
import type { Group } from '../rollout/api.js';
import type { SamplingProgress } from '../rollout/rollout.js';
import type { SavedState } from '../run/state.js';
import type { Example } from '../tasks/task.js';
import type { TensorSource } from '../weights/tensor-source.js';

/** Of how many completions how many have been sampled, and have their rewards. */
export type CompletionCounts = Omit<SamplingProgress, 'rewardSeconds'>;

/** The same of a share whose size is known elsewhere. */
type Done = Omit<CompletionCounts, 'all'>;

/**
 * The groups of some examples, in their order. Calls `sample` for this process's share of them, which begins with the example at
 * `first`: for all in the first process if `byFirst`, because only it sends requests to a rollout engine's servers. `sample` says
 * how far its share is, and `onProgress` is called with how far all of them are.
 */
export async function sampleTogether<E extends Example>(
  processes: Processes,
  examples: readonly E[],
  byFirst: boolean,
  sample: (examples: readonly E[], first: number, onShare: (done: Done) => void) => Promise<Group<E>[]>,
  onProgress: (done: Done) => void,
): Promise<Group<E>[]> {
  if (processes.size === 1) return sample(examples, 0, onProgress);
  const all = { first: 0, count: processes.isFirst ? examples.length : 0 };
  const { first, count } = byFirst ? all : processes.share(examples.length);
  let done: Done = { sampled: 0, rewarded: 0 };
  const sampleShare = async () => {
    if (count === 0) return [];
    return sample(examples.slice(first, first + count), first, ({ sampled, rewarded }) => {
      done = { sampled, rewarded };
    });
  };
  const own = await processes.whileAllWork(
    sampleShare(),
    () => done,
    (all) => {
      const total = (which: keyof Done) => all.reduce((sum, each) => sum + each[which], 0);
      onProgress({ sampled: total('sampled'), rewarded: total('rewarded') });
    },
  );
  // Examples may hold what cannot be sent, and every process has them.
  const sent = own.map(({ prompt, completions }) => ({ prompt, completions }));
  const groups = (await processes.gather('groups', sent)).flat();
  return groups.map((group, i) => ({ example: examples[i], ...group }));
}

/** The state that the first process gives, in all of them. `begun`: whether its warm start is over. */
export async function shareState(
  processes: Processes,
  own: { begun: boolean; state: SavedState } | undefined,
): Promise<{ begun: boolean; state: SavedState }> {
  const parts = ['weights', 'optimizer', 'reference'] as const;
  const gathered = await processes.gather(
    'state',
    own && {
      begun: own.begun,
      isWarmStart: own.state.isWarmStart,
      counters: own.state.counters,
      shapes: parts.map((part) => own.state[part]?.shapes ?? null),
    },
  );
  const { begun, isWarmStart, counters, shapes } = gathered[0]!;
  const sources: (TensorSource | null)[] = [];
  for (const [i, part] of parts.entries()) {
    const values = new Map<string, Float32Array>();
    for (const [name, shape] of Object.entries(shapes[i] ?? {})) {
      const size = shape.reduce((product, length) => product * length, 1);
      const own32 = own?.state[part]?.read(name);
      const array = own32 ? Float32Array.from(own32) : new Float32Array(size);
      await processes.copyFirst(array);
      values.set(name, array);
    }
    sources.push(shapes[i] && { shapes: shapes[i], read: (name) => values.get(name)! });
  }
  const [weights, optimizer, reference] = sources;
  return { begun, state: { weights: weights!, optimizer: optimizer!, reference, files: {}, isWarmStart, counters } };
}
