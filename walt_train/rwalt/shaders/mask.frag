#version 430
#ifdef LEAVES
#include noise
#include leaf
#endif
in vec3 local;
flat in int kind;
flat in uint object_id;
out uint covered;

void main() {
#ifdef LEAVES
    if (between_leaves(kind, local)) discard;
#endif
    covered = object_id;
}
