// `groupgrad export`: writes a trained model or adapter in the layout that other programs read.

import { rangeError } from '../base/check.js';
import type { LoadedPolicy } from '../weights/pretrained-policy.js';
import { parse, UsageError } from './arguments.js';
import { backendFlag } from './evaluate.js';

export const help = `groupgrad export <run> --to DIR [flags]

  <run>              the folder of a run that trains a model from a Hugging Face folder
  --to DIR           the output: a PEFT folder if the run trains an adapter, else a Hugging Face folder
  --merge            merge the adapter into the weights and write a Hugging Face folder
  --checkpoint PATH  a checkpoint other than the newest
  --backend NAME     groupgrad, tensorflow, wasm or cpu
`;

export async function exportRun(args: readonly string[]): Promise<void> {
  const { flags, positionals } = parse(args, ['a run folder'], {
    to: { type: 'string' },
    merge: { type: 'boolean' },
    checkpoint: { type: 'string' },
    backend: { type: 'string' },
  });
  const [runDir] = positionals;
  const { to, merge = false } = flags;
  if (to === undefined) throw new UsageError('--to: expected the path of a folder, got nothing');
  const backend = backendFlag(flags.backend);
  const { loadRun } = await import('./saved-run.js');
  const { policy, checkpoint, step } = await loadRun(runDir, { checkpoint: flags.checkpoint, backend });
  try {
    if (policy.description.type !== 'pretrained') {
      throw rangeError(
        runDir,
        'a run of a model from a folder',
        `a run of a policy of type ${policy.description.type}`,
      );
    }
    await (policy as LoadedPolicy).save(to, { merge });
  } finally {
    policy.dispose();
  }
  console.log(`${to}: step ${step} of ${checkpoint}`);
}
