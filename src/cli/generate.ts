// `groupgrad generate`: completes a prompt with a model.

import { cutBounds } from '../rollout/engine.js';
import { usualMaxTokens } from '../rollout/token-task.js';
import { numberFlag, parse } from './arguments.js';
import { backendFlag, precisionFlag } from './evaluate.js';
import { asUsageErrors } from './usage-errors.js';

export const help = `groupgrad generate <model> <text> [flags]

  <model>            a folder in Hugging Face's layout
  <text>             the text to complete
  --chat             the text is a user message, rendered by the model's chat template
  --adapter DIR      a PEFT folder
  --max-tokens N     default ${usualMaxTokens}
  --temperature T    default 0: greedy
  --top-p P --top-k K --min-p P    truncate the distribution
  --samples N        completions; default 1
  --seed N           default 0
  --backend NAME     groupgrad, tensorflow, wasm or cpu
  --precision TYPE   of matrix products: float32 (default), or bfloat16 on the backend groupgrad
  --json             one JSON object per completion
`;

export async function generate(args: readonly string[]): Promise<void> {
  const { flags, positionals } = parse(args, ['a model folder', 'a prompt'], {
    chat: { type: 'boolean' },
    adapter: { type: 'string' },
    'max-tokens': { type: 'string' },
    temperature: { type: 'string' },
    'top-p': { type: 'string' },
    'top-k': { type: 'string' },
    'min-p': { type: 'string' },
    samples: { type: 'string' },
    seed: { type: 'string' },
    backend: { type: 'string' },
    precision: { type: 'string' },
    json: { type: 'boolean' },
  });
  const [folder, text] = positionals;
  const options = {
    maxTokens: numberFlag('max-tokens', flags['max-tokens'], { min: 1, integer: true }),
    temperature: numberFlag('temperature', flags.temperature, { min: 0 }) ?? 0,
    topP: numberFlag('top-p', flags['top-p'], cutBounds.topP),
    topK: numberFlag('top-k', flags['top-k'], cutBounds.topK),
    minP: numberFlag('min-p', flags['min-p'], cutBounds.minP),
    samples: numberFlag('samples', flags.samples, { min: 1, integer: true }),
    seed: numberFlag('seed', flags.seed, { min: 0, integer: true }),
  };
  const precision = precisionFlag(flags.precision);
  const backend = backendFlag(flags.backend);
  const { ensureBackend } = await import('../backend/backend.js');
  const { generateFrom } = await import('../rollout/generate.js');
  const { loadPretrainedPolicy } = await import('../weights/pretrained-policy.js');
  await ensureBackend(backend);
  const policy = await asUsageErrors(() => loadPretrainedPolicy(folder, { adapter: flags.adapter, precision }));
  try {
    const prompt = flags.chat ? [{ role: 'user', content: text }] : text;
    const completions = await asUsageErrors(() => generateFrom(policy, [prompt], options));
    for (const { text: written, tokens, logProbs, truncated } of completions) {
      const logProb = logProbs.reduce((sum, value) => sum + value, 0);
      if (flags.json) console.log(JSON.stringify({ text: written, tokens: [...tokens], logProb, truncated }));
      else console.log(`${written}${truncated ? '…' : ''}`);
    }
  } finally {
    policy.dispose();
  }
}
