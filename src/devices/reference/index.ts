// The device `reference`: the mathematics in plain float64 TypeScript, written to be read. The tests compare every other device
// with it, and it runs if there is no addon.

import type { Device } from '../plan.js';
import { computeAdvantages } from './advantages.js';
import { linearLoss } from './linear.js';
import { logitsBackward, logitsLoss } from './logits.js';
import { policyLoss } from './policy.js';

export const referenceDevice: Device = { computeAdvantages, policyLoss, logitsLoss, logitsBackward, linearLoss };
