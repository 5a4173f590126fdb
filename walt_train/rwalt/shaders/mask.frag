#version 430
#include noise
#include leaf
in vec3 local;
flat in int kind;
flat in uint object_id;
out uint covered;

void main() {
    if (between_leaves(kind, local)) discard;
    covered = object_id;
}
