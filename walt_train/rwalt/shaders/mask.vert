#version 430
#include instance
uniform mat4 clip_matrix;
uniform vec2 frame_wh;
uniform vec2 target_wh;
uniform int tiled;    // 1: every object alone, in its tile of the atlas; 0: all in the frame
uniform int sliced;   // 1: depth order as the picture has it; 0: plain geometry
out vec3 local;
flat out int kind;
flat out uint object_id;

void main() {
    vec4 at = clip_matrix * vec4(to_world(in_position), 1.0);
    local = in_position;
    kind = int(in_kind + 0.5);
    object_id = uint(in_tint.w + 0.5);
    if (sliced == 1) at.z = (2.0 * in_place.x + in_place.y - 1.0) * at.w + in_place.y * at.z;
    vec2 pixels = (at.xy + at.w) * 0.5 * frame_wh;   // times w
    gl_ClipDistance[0] = pixels.x - in_box.x * at.w;
    gl_ClipDistance[1] = in_box.z * at.w - pixels.x;
    gl_ClipDistance[2] = pixels.y - in_box.y * at.w;
    gl_ClipDistance[3] = in_box.w * at.w - pixels.y;
    if (tiled == 1) {
        pixels += in_place.zw * at.w;
        at.xy = pixels / target_wh * 2.0 - at.w;
    }
    gl_Position = at;
}
