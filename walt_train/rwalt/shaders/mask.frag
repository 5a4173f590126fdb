#version 430
flat in uint object_id;
out uint covered;

void main() {
    covered = object_id;
}
