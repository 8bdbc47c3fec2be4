// Table 1 of the HA-DW paper (arXiv 2601.08521): GRPO, GSPO and DAPO, each with and without HA-DW, trained on MATH and evaluated on
// mathematical benchmarks. The model and the files are yours:
//
//   npx groupgrad compare examples/paper/math.ts \
//     --set base.policy.model=models/Qwen3-4B-Base --set base.train.data=math/train.jsonl \
//     --set benchmarks.math500=math500.jsonl --set benchmarks.aime25=aime25.jsonl --set benchmarks.amc23=amc23.jsonl \
//     --set benchmarks.minerva=minerva.jsonl --set benchmarks.olympiadbench=olympiadbench.jsonl
//
// Name the benchmarks whose files you have: gsm8k, math500, aime24, aime25, amc23, minerva, olympiadbench. Running the same command
// again resumes, with more benchmarks, seeds and steps if you like. The table is printed, and written to benchmarks.md and report.html.
// On a small model: --set base.steps=2 --set base.promptsPerStep=4 --set base.miniBatches=2 --set base.sampling.maxTokens=64
// --set evaluation.size=8.

import { defineComparison, presets } from 'groupgrad';

/**
 * The best λ_scale of the paper's table, 1.3, and a history of 10 batches. Of the paper's two updates of the anchor this is the hard one
 * (appendix F), which the authors' code uses; the paper does not say which one table 1 uses.
 */
const hadw = { scale: 1.3, anchor: { window: 10 } };

export default defineComparison({
  base: {
    // Table 1 has Qwen3-4B-Base, Qwen3-8B-Base and LLaMA-3.2-3B-Instruct. All weights are trained; an adapter, which the paper does
    // not use, needs a fraction of the memory: --set base.policy.lora.rank=16 --set base.optimizer.learningRate=1e-5.
    policy: { model: 'models/Qwen3-4B-Base' },
    // MATH; its columns, the prompt of the paper and the grader are those of MATH-500. The paper does not say whether a base model's
    // chat template is used: here it is, if the model has one.
    train: { data: 'math/train.jsonl', benchmark: 'math500', chat: 'auto' },
    // Table 8: batches of 256 prompts, groups of 8, mini-batches of 16 prompts.
    promptsPerStep: 256,
    groupSize: 8,
    miniBatches: 16,
    // Table 8: AdamW, 10 warm-up steps, gradients clipped at 1. A warm-up step is taken to be a training step of 16 updates, as the
    // authors' trainer (verl) counts them. Betas and epsilon are not given: those of PyTorch.
    optimizer: { learningRate: 1e-6, weightDecay: 0.1, warmupSteps: 10 * 16, maxGradientNorm: 1 },
    // The paper: temperature 1, responses of up to 4,096 tokens. The longest prompt is not given.
    sampling: { temperature: 1, maxTokens: 4096, promptLength: 2048 },
    // Not given in the paper. With the 7,500 problems of MATH's training set this is about seven epochs.
    steps: 200,
    checkpoint: { every: 10, keepLast: 1 },
  },
  // Table 8: clip ranges of 0.2 and 0.2, 3e-4 and 4e-4, 0.2 and 0.28, and no KL term, as in the presets. The paper does not say whether
  // DAPO drops groups of equal rewards and penalises long answers, as its authors do: here it does neither.
  variants: {
    grpo: { loss: presets.grpo },
    'grpo+hadw': { loss: presets.grpo, hadw },
    gspo: { loss: presets.gspo },
    'gspo+hadw': { loss: presets.gspo, hadw },
    dapo: { loss: presets.dapo },
    'dapo+hadw': { loss: presets.dapo, hadw },
  },
  pairs: [
    ['grpo+hadw', 'grpo'],
    ['gspo+hadw', 'gspo'],
    ['dapo+hadw', 'dapo'],
  ],
  // The paper reports one run of each. --set seeds=5 shows how much of a difference is chance.
  seeds: 1,
  benchmarks: {},
  // The paper validates with greedy decoding. For avg@32 on the AIME and AMC sets, as is usual elsewhere: --set evaluation={}.
  evaluation: { samples: 1, temperature: 0 },
});
