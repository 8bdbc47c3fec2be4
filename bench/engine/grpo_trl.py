"""A contender of grpo.ts: GRPO steps of a model folder by TRL. Answers `step` with the seconds of one, `peak` with bytes.

Usage: grpo_trl.py FOLDER THREADS
"""

import os
import resource
import sys
import tempfile
import time

# Answers alone go to the standard output.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch
import transformers
import trl
from datasets import Dataset

folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)


def answer(text):
    print(text, file=answers, flush=True)


class Turns(transformers.TrainerCallback):
    """Begins a step when it is asked for one."""

    def on_step_begin(self, args, state, control, **kwargs):
        for line in sys.stdin:
            if line.strip() == "step":
                self.begin = time.perf_counter()
                return
            answer(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        os._exit(0)

    def on_step_end(self, args, state, control, **kwargs):
        answer(time.perf_counter() - self.begin)


def reward(completions, **kwargs):
    return [float(i % 2) for i in range(len(completions))]


prompts = [" ".join(f"w{10 + (i + 1) * (at + 7) * 131 % 49000}" for at in range(29)) for i in range(1000)]
with tempfile.TemporaryDirectory() as output:
    trainer = trl.GRPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
        reward_funcs=reward,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        args=trl.GRPOConfig(
            output_dir=output, use_cpu=True, bf16=False, per_device_train_batch_size=32, num_generations=8,
            max_completion_length=32, max_steps=1000, learning_rate=1e-6,
            report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
            generation_kwargs={"min_new_tokens": 32},
        ),
        callbacks=[Turns()],
    )
    answer(f"TRL {trl.__version__}, transformers {transformers.__version__}, PyTorch {torch.__version__}")
    trainer.train()
