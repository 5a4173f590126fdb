#version 430
#include light
#ifdef LEAVES
#include noise
#include leaf
#endif
uniform vec3 eye;
in vec3 world;
in vec3 normal;
in vec3 local;
flat in vec3 colour;
flat in int kind;
flat in vec4 lamps;
out vec4 shown;

const int PAINT = 1, GLASS = 2, HEADLIGHT = 3, TAILLIGHT = 4, CLOTH = 6, RED_LAMP = 7, GREEN_LAMP = 8;

void main() {
#ifdef LEAVES
    if (between_leaves(kind, local)) discard;
#endif
    vec3 to_eye = normalize(eye - world);
    vec3 n = normalize(normal);
    if (dot(n, to_eye) < 0.0) n = -n;
    vec3 albedo = colour;
    float open_sky = 0.55 + 0.45 * n.z;
    float facing = max(dot(n, sun_direction), 0.0);
#ifdef LEAVES
    if (kind == FOLIAGE) {
        float leaf = value_noise(world.xz * 11.0 + world.y * 7.0) + 0.6 * value_noise(world.yz * 23.0 + world.x * 5.0);
        albedo *= 0.35 + 0.95 * leaf;
        facing = mix(facing, 0.5, 0.4) * (0.55 + 0.5 * leaf);
    }
#endif
    if (kind == CLOTH) {
        facing = facing * 0.9 + 0.04;
        open_sky *= 0.92;
    }
    float sun = facing > 0.0 ? facing * lit_by_sun(static_shadow, world, n, 0.0) * lit_by_sun(moving_shadow, world, n, 0.0) : 0.0;
    // Near the ground, under bodies and between legs, the sky is hidden.
    float grounded = smoothstep(-0.1, 0.7, world.z);
    vec3 lit = albedo * (sky_light * open_sky * mix(0.55, 1.0, grounded) + sun_light * sun
        + sun_light * 0.07 * sun_direction.z * max(0.35 - n.z, 0.0) + lamp_light * (0.16 + 0.2 * max(n.z, 0.0)));
    if (kind == PAINT || kind == GLASS) {
        vec3 mirrored = reflect(-to_eye, n);
        float edge = pow(1.0 - max(dot(n, to_eye), 0.0), 4.0);
        float strength = kind == GLASS ? 0.10 + 0.75 * edge : 0.04 + 0.4 * edge;
        vec3 around = mix(vec3(0.12, 0.11, 0.10), sky_light * 1.35, smoothstep(-0.12, 0.35, mirrored.z));
        float glint = pow(max(dot(mirrored, sun_direction), 0.0), 90.0) * step(0.001, sun);
        lit += strength * around + sun_light * glint * (kind == GLASS ? 1.6 : 0.8);
    }
    if (kind == HEADLIGHT) lit += lamps.y * vec3(2.6, 2.3, 1.8);
    if (kind == TAILLIGHT) lit += (lamps.x * 0.9 + lamps.y * 0.35) * vec3(1.6, 0.06, 0.04);
    if (kind == RED_LAMP) lit = lamps.z > 0.5 ? vec3(2.4, 0.12, 0.08) : lit * 0.35;
    if (kind == GREEN_LAMP) lit = lamps.w > 0.5 ? vec3(0.1, 2.0, 0.7) : lit * 0.35;
    shown = vec4(display(lit), 1.0);
}
