"""Jitted numerics: arrays and native addresses in, arrays out; nothing is allocated in a step."""
