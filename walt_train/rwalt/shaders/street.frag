#version 430
// The baked street under this moment's light and shadows.
#include light
uniform sampler2D baked_albedo;
uniform sampler2D baked_light;
uniform sampler2D baked_world;
uniform float glow;
out vec4 shown;

void main() {
    ivec2 at = ivec2(gl_FragCoord.xy);
    vec4 albedo = texelFetch(baked_albedo, at, 0);
    vec4 light = texelFetch(baked_light, at, 0);
    float sun = light.x;
    if (sun > 0.0) sun *= lit_by_sun(moving_shadow, texelFetch(baked_world, at, 0).xyz, vec3(0.0), 0.0018);
    vec3 lit = albedo.rgb * albedo.rgb * (sky_light * light.y + sun_light * sun + lamp_light * light.z);
    lit += albedo.a * glow * vec3(0.95, 0.66, 0.34);
    shown = vec4(display(lit), 1.0);
}
