#version 430
#ifdef LEAVES
#include noise
#include leaf
#endif
in vec3 local;
flat in int kind;

void main() {
#ifdef LEAVES
    if (between_leaves(kind, local)) discard;
#endif
}
