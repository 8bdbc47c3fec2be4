/** A value that should be a finite number and is not: the trainer's guard acts on it. The message says where and what. */
export class NumericFault extends Error {
  override name = 'NumericFault';
}
