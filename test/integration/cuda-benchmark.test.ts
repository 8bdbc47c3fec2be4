// The GPU benchmark without a GPU: its programs with a libgroupgrad whose kernels run on the processor.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { before, describe } from 'node:test';
import { buildEmulatedAddon, cannotBuild, exists, outputOf, root, run, withFolder } from '../support/native.js';
import { slowSet } from '../support/sets.js';

const python = process.env.GROUPGRAD_PYTHON ?? 'python3';
const noBuild = slowSet('compiles the emulated device') || cannotBuild();
const noPython = !exists(python) && `${python} was not found (GROUPGRAD_PYTHON names another)`;
const hasTorch = !noBuild && run(python, ['-c', 'import torch']).status === 0;
const noTorch = noBuild || (!hasTorch && `${python} has no PyTorch (GROUPGRAD_PYTHON names another)`);

const program = (name: string) => join(root, 'bench', 'gpu', name);

function succeeds(command: string, args: readonly string[], env = process.env): string {
  const result = run(command, args, { env });
  assert.equal(result.status, 0, outputOf(result));
  return result.stdout;
}

interface Results {
  machine: Record<string, unknown>;
  rows: { operation: string; size: string; contender: string; role: string; medianMs: number; error: number | null }[];
  skipped: { contender: string; reason: string }[];
}

// They lie in the folder that Python searches first: PyTorch's compiler once imported profile.py instead of its own.
test('no program is named like a module of the standard library of Python', { skip: noPython }, () => {
  const names = readdirSync(join(root, 'bench', 'gpu')).filter((file) => file.endsWith('.py'));
  const script = 'import sys; print([f for f in sys.argv[1:] if f[:-3] in sys.stdlib_module_names])';
  assert.equal(succeeds(python, ['-c', script, ...names]).trim(), '[]');
});

describe('the GPU benchmark', { skip: noBuild }, () => {
  let addon = '';
  let library = '';
  before(() => {
    addon = buildEmulatedAddon();
    library = join(dirname(addon), 'libgroupgrad.so');
  });

  test('the calls for compute-sanitizer give masked tokens no gradient, and are deterministic', (t) => {
    const compiler = process.env.CXX ?? 'c++';
    const folders = ['-I', join(root, 'test', 'native', 'simt'), '-I', join(root, 'native', 'c')];
    const sources = [program('sanitize.cpp'), join(root, 'native', 'c', 'groupgrad.cpp')];
    const flags = ['-std=c++20', '-O1', '-Wall', '-Wextra', '-Werror', '-Wno-unknown-pragmas'];
    withFolder((folder) => {
      const output = join(folder, 'sanitize');
      const own = ['-DGROUPGRAD_VERSION="test"', ...sources, join(dirname(addon), 'libgroupgrad_cuda.a'), '-o', output];
      succeeds(compiler, [...flags, ...folders, ...own]);
      t.diagnostic(succeeds(output, ['40']).trim());
    });
  });

  test('through ctypes, on PyTorch tensors, gradients and losses agree with float64', { skip: noTorch }, (t) => {
    t.diagnostic(succeeds(python, [program('check.py'), '--emulated', '--library', library]).trim());
  });

  test('a loss that is not the requested one fails the check', { skip: noTorch }, () => {
    const spoilt = `
import sys
sys.path.insert(0, ${JSON.stringify(join(root, 'bench', 'gpu'))})
import check, groupgrad
honest = groupgrad._set_config
def spoil(config, loss):
    honest(config, loss)
    config.surrogate_parameters[1] += 0.002
groupgrad._set_config = spoil
check.VOCABULARIES, check.POLICY_SHAPES = (7,), ()
check.main()`;
    const result = run(python, ['-c', spoilt, '--emulated', '--library', library]);
    assert.equal(result.status, 1, outputOf(result));
    assert.match(result.stderr, /WRONG: loss, N = 12, V = 7, float32, token ratio: error/);
  });

  test('other implementations are called correctly', { skip: noTorch }, () => {
    // Stand-ins for their packages, with their functions' parameters and the mathematics of their kernels.
    const sources = {
      'fast_llm/__init__.py': '__version__ = "stand-in"',
      'fast_llm/functional/__init__.py': '',
      'fast_llm/functional/triton/__init__.py': 'triton_available = True',
      'fast_llm/functional/triton/grpo_loss.py': `
import torch

def triton_grpo_loss_forward_backward(
    logits, target, advantages, old_log_probabilities, grad_logits=None, grad_output=None, group=None,
    epsilon_low=0.2, epsilon_high=0.2, logits_scale_factor=1.0, num_labels_in_seq=None, divisor=None,
    block_size=None, num_warps=None,
):
    assert all(t.is_contiguous() for t in (logits, target, advantages, old_log_probabilities))
    assert target.shape == advantages.shape == old_log_probabilities.shape == logits.shape[:-1]
    leaf = logits.detach().float().requires_grad_()
    counts = target >= 0
    log_probs = torch.log_softmax(leaf, -1).gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    ratio = (log_probs - old_log_probabilities).exp()
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    losses = -torch.min(ratio * advantages, clipped * advantages) * counts
    loss = losses.sum() / divisor
    return loss.detach(), torch.autograd.grad(loss * grad_output, leaf)[0].to(logits.dtype), None
`,
      'liger_kernel/__init__.py': '__version__ = "stand-in"',
      'liger_kernel/ops/__init__.py': '',
      'liger_kernel/ops/cutile/__init__.py': '',
      'liger_kernel/ops/cutile/ops/__init__.py': '',
      'liger_kernel/ops/cutile/ops/grpo_loss.py': `
import torch

def loss_of(logits, old_logp, ids, advantages, mask, eps_low, eps_high, loss_type, level):
    mask = torch.ones_like(ids) if mask is None else mask
    log_probs = torch.log_softmax(logits[:, :-1].float(), -1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    log_ratio = log_probs - (log_probs.detach() if old_logp is None else old_logp)
    if level == "sequence":
        log_ratio = (log_ratio * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    ratio = log_ratio.exp()
    gain = advantages.unsqueeze(-1)
    losses = -torch.min(ratio * gain, ratio.clamp(1 - eps_low, 1 + eps_high) * gain) * mask
    if loss_type == "grpo":
        return (losses.sum(-1) / mask.sum(-1).clamp(min=1)).mean()
    assert loss_type == "dapo"
    return losses.sum() / mask.sum()

class GrpoLossFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, logits, old_logp, ref_logp, completion_ids, advantages, completion_mask, temperature, beta, eps_low,
        eps_high, inplace, loss_type="grpo", max_completion_length=None, reduce=True,
        importance_sampling_level="token", sapo_temperature_pos=1.0, sapo_temperature_neg=1.05, vllm_is_ratio=None,
        delta=None, use_bias_correction_kl=False, num_items_in_batch=None, phi_seq=None,
    ):
        assert logits.is_contiguous() and logits.shape[1] == completion_ids.shape[1] + 1
        assert (temperature, beta, inplace, reduce) == (1.0, 0.0, True, True)
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            loss = loss_of(leaf, old_logp, completion_ids, advantages, completion_mask, eps_low, eps_high, loss_type,
                           importance_sampling_level)
            logits.data.copy_(torch.autograd.grad(loss, leaf)[0])
        ctx.gradient = logits.data
        return loss.detach(), None, torch.zeros(())
    @staticmethod
    def backward(ctx, grad_loss, *_):
        return (ctx.gradient, *[None] * 21)
`,
      'liger_kernel/transformers/__init__.py': '',
      'liger_kernel/transformers/grpo_loss.py': `
from liger_kernel.ops.cutile.ops.grpo_loss import GrpoLossFunction

def triton_grpo_loss(
    logits, old_logp, ref_logp, completion_ids, advantages, completion_mask=None, temperature=0.9, beta=0.04,
    eps_low=0.2, eps_high=0.4, inplace=True, loss_type="dapo", max_completion_length=None,
    importance_sampling_level="token", reduce=False,
):
    loss, _, clip_ratio = GrpoLossFunction.apply(
        logits, old_logp, ref_logp, completion_ids, advantages, completion_mask, temperature, beta, eps_low, eps_high,
        inplace, loss_type, max_completion_length, reduce, importance_sampling_level)
    return loss, [clip_ratio]
`,
      'quack/__init__.py': '',
      'quack/cross_entropy.py': 'import cutlass.cute',
    };
    withFolder((folder) => {
      for (const [name, text] of Object.entries(sources)) {
        mkdirSync(dirname(join(folder, name)), { recursive: true });
        writeFileSync(join(folder, name), text);
      }
      const out = join(folder, 'results.json');
      const env = { ...process.env, PYTHONPATH: folder };
      const args = [program('bench.py'), '--emulated', '--no-compile', '--library', library, '--out', out];
      const printed = succeeds(python, args, env);
      assert.match(printed, /\| Fast-LLM \/ groupgrad \|/);
      const { machine, rows, skipped } = JSON.parse(readFileSync(out, 'utf8')) as Results;
      assert.equal(machine.fast_llm, 'stand-in');
      assert.equal(machine.liger_kernel, 'stand-in');
      const measured = (name: string) => rows.filter(({ contender }) => contender.startsWith(name));
      const left = (name: string) =>
        skipped.filter(({ contender }) => contender.startsWith(name)).map(({ reason }) => reason);
      assert.equal(measured('Fast-LLM').length, 1);
      assert.deepEqual(left('Fast-LLM').sort(), [
        'it has no entropy term',
        'it needs old log-probs',
        'its one launch has no sequence-level ratio',
      ]);
      for (const name of ['Liger-Kernel,', 'Liger-Kernel on cuTile']) {
        assert.equal(measured(name).length, 3, name);
        assert.deepEqual(left(name), ['it has no entropy term']);
      }
      for (const { contender, error } of [...measured('Fast-LLM'), ...measured('Liger-Kernel')]) {
        // Log-probs in float32, a gradient in bfloat16.
        assert.ok(error !== null && error < 2 ** -8, `${contender}: ${error}`);
      }
      assert.ok(left('QuACK').every((reason) => reason === 'absent: quack needs nvidia-cutlass-dsl'));
    });
  });

  test('launches.py runs the workload for a profiler', { skip: noTorch }, () => {
    succeeds(python, [program('launches.py'), '--emulated', '--library', library]);
  });

  test('bench.py measures every case and says what it left out', { skip: noTorch }, () => {
    withFolder((folder) => {
      const out = join(folder, 'results.json');
      const built = existsSync(join(root, 'dist', 'index.js'));
      const options = ['--emulated', '--no-compile', ...(built ? ['--addon'] : []), '--library', library, '--out', out];
      const env = { ...process.env, GROUPGRAD_ADDON: addon };
      const printed = succeeds(python, [program('bench.py'), ...options], env);
      const { rows, skipped } = JSON.parse(readFileSync(out, 'utf8')) as Results;
      const sizes = new Set(rows.map(({ operation, size }) => `${operation}, ${size}`));
      assert.equal(sizes.size, 6);
      for (const size of sizes) {
        assert.ok(printed.includes(`### ${size}\n`), size);
        const own = rows.filter((row) => `${row.operation}, ${row.size}` === size);
        for (const role of ['copy', 'groupgrad', 'peer'])
          assert.ok(
            own.some((row) => row.role === role),
            `${size}: ${role}`,
          );
      }
      for (const { contender, role, medianMs, error } of rows) {
        assert.ok(medianMs > 0, contender);
        // bfloat16 log-probs, as in PyTorch, are the least accurate.
        if (role !== 'copy' && role !== 'addon') assert.ok(error !== null && error < 0.05, `${contender}: ${error}`);
      }
      assert.equal(rows.filter(({ role }) => role === 'addon').length, built ? 4 : 0);
      assert.ok(skipped.some(({ contender, reason }) => contender === 'torch.compile' && /compiles/.test(reason)));
    });
  });
});
