#version 430
#include noise
#include leaf
in vec3 local;
flat in int kind;

void main() {
    if (between_leaves(kind, local)) discard;
}
