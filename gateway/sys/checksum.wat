;; One's-complement sum of the 16-bit little-endian words of $n bytes at $p, folded to 16 bits; an odd last byte counts as
;; the low byte of a word. Four SIMD accumulators of 32-bit lanes: each lane takes two words of each 64 bytes, so lengths up to
;; 2 MB cannot overflow one.
(module (import "e" "m" (memory 1 65536 shared))
 (func (export "s") (param $p i32) (param $n i32) (result i32)
  (local $a v128) (local $b v128) (local $c v128) (local $d v128) (local $blocks i32) (local $total i64) (local $end i32)
  (local.set $end (i32.add (local.get $p) (local.get $n)))
  (local.set $blocks (i32.add (local.get $p) (i32.and (local.get $n) (i32.const -64))))
  (block $done (loop $next (br_if $done (i32.ge_u (local.get $p) (local.get $blocks)))
   (local.set $a (i32x4.add (local.get $a) (i32x4.extadd_pairwise_i16x8_u (v128.load align=1 (local.get $p)))))
   (local.set $b (i32x4.add (local.get $b) (i32x4.extadd_pairwise_i16x8_u (v128.load offset=16 align=1 (local.get $p)))))
   (local.set $c (i32x4.add (local.get $c) (i32x4.extadd_pairwise_i16x8_u (v128.load offset=32 align=1 (local.get $p)))))
   (local.set $d (i32x4.add (local.get $d) (i32x4.extadd_pairwise_i16x8_u (v128.load offset=48 align=1 (local.get $p)))))
   (local.set $p (i32.add (local.get $p) (i32.const 64))) (br $next)))
  (local.set $a (i32x4.add (i32x4.add (local.get $a) (local.get $b)) (i32x4.add (local.get $c) (local.get $d))))
  (local.set $total (i64.add
   (i64.add (i64.extend_i32_u (i32x4.extract_lane 0 (local.get $a))) (i64.extend_i32_u (i32x4.extract_lane 1 (local.get $a))))
   (i64.add (i64.extend_i32_u (i32x4.extract_lane 2 (local.get $a))) (i64.extend_i32_u (i32x4.extract_lane 3 (local.get $a))))))
  (block $done (loop $next (br_if $done (i32.gt_u (i32.add (local.get $p) (i32.const 2)) (local.get $end)))
   (local.set $total (i64.add (local.get $total) (i64.extend_i32_u (i32.load16_u align=1 (local.get $p)))))
   (local.set $p (i32.add (local.get $p) (i32.const 2))) (br $next)))
  (if (i32.lt_u (local.get $p) (local.get $end)) (then
   (local.set $total (i64.add (local.get $total) (i64.extend_i32_u (i32.load8_u (local.get $p)))))))
  (local.set $total (i64.add (i64.and (local.get $total) (i64.const 0xffff)) (i64.shr_u (local.get $total) (i64.const 16))))
  (local.set $total (i64.add (i64.and (local.get $total) (i64.const 0xffff)) (i64.shr_u (local.get $total) (i64.const 16))))
  (local.set $total (i64.add (i64.and (local.get $total) (i64.const 0xffff)) (i64.shr_u (local.get $total) (i64.const 16))))
  (i32.wrap_i64 (local.get $total))))
